"""Settings of the documentation: `sphinx-build -W -b html docs docs/_build`."""

import json
from pathlib import Path
from typing import Any

import onecycle

project = "onecycle"
author = "The onecycle developers"
release = onecycle.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings mark code with single backquotes

html_theme = "furo"
html_title = f"onecycle {release}"
html_copy_source = False

autodoc_mock_imports = [  # none is needed to build these pages
    "accelerate",
    "ignite",
    "jax",
    "keras",
    "lightning",
    "optax",
    "optuna",
    "skorch",
    "transformers",
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
myst_heading_anchors = 3

myst_enable_extensions = ["substitution"]


def regret(split: str) -> dict[str, Any]:
    """What benchmarks/regret measured."""
    path = Path(__file__).parent.parent / f"benchmarks/results/regret/report-{split}.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def regret_table(split: str) -> str:
    """The same as a table: ours, then the other tools' rules from their least mean on."""
    names = {
        "onecycle": "**this library**",
        "valley": "fastai `valley`",
        "slide": "fastai `slide`",
        "steep": "fastai `steep`",
        "minimum": "fastai `minimum`",
        "ignite": "ignite",
        "torch-lr-finder": "torch-lr-finder",
        "lightning-2.5.2": "Lightning up to 2.5.2",
        "lightning": "Lightning since 2.5.3",
    }
    rules = regret(split)["rules"]
    order = sorted(set(names) & set(rules), key=lambda name: (name != "onecycle", rules[name]["mean"]))
    rows = [
        f"| {names[name]} | {r['mean']:.2f} | {r['median']:.3f} | {r['worst']:.1f} "
        f"| {r['within_5_percent']:.0%} |"
        for name in order
        if (r := rules[name])
    ]
    return "\n".join(["| rule | mean | median | worst | within 5 % |", "|---|---|---|---|---|", *rows])


DEV = regret("dev")
OURS = [row for row in DEV["rows"] if row["rule"] == "onecycle"]
myst_substitutions = {
    "regret_dev": regret_table("dev"),
    "regret_test": regret_table("test"),
    "sweeps_dev": str(sum(len(row["rates"]) for row in OURS)),
    "tasks_dev": str(len(OURS)),
    "refused_dev": str(DEV["rules"]["onecycle"]["refused"]),
    "within_dev": f"{DEV['rules']['onecycle']['within_5_percent']:.0%}",
}
