"""Settings of the documentation: `sphinx-build -W -b html docs docs/_build`."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
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
html_show_copyright = False
html_show_search_summary = False  # each is fetched, which a browser refuses to a page that is a file
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2456c8", "color-brand-content": "#2456c8"},
    "dark_css_variables": {"color-brand-primary": "#8db0ff", "color-brand-content": "#8db0ff"},
}

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
nitpicky = True
nitpick_ignore_regex = [  # what other libraries' pages would have, names within type hints, and private ones
    ("py:.*", r"(?!onecycle\.[^_]).*"),
    ("py:class", r"onecycle\.transformers\.T"),
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "substitution"]


NAMES = {
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


def measured(name: str) -> dict[str, Any]:
    """A file of benchmarks/results."""
    path = Path(__file__).parent.parent / f"benchmarks/results/{name}.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def regret_table(split: str) -> str:
    """The regret of ours, then of the other tools' rules from their least mean on."""
    rules = measured(f"regret/report-{split}")["rules"]
    order = sorted(set(NAMES) & set(rules), key=lambda name: (name != "onecycle", rules[name]["mean"]))
    return table(
        ["rule", "mean", "median", "worst", "within 5 %"],
        (
            [
                NAMES[name],
                *(f"{rules[name][key]:.{n}f}" for key, n in (("mean", 2), ("median", 3), ("worst", 1))),
                f"{rules[name]['within_5_percent']:.0%}",
            ]
            for name in order
        ),
    )


def recipe_table() -> str:
    """Losses that recipes come to, ours first, the dearest first."""
    labels = {
        "tune": "**`tune`**",
        "onecycle": "**the range test's rate**",
        "tpe": "Optuna's TPE",
        "default": "torch's own rate, constant",
    }
    rows = measured("recipe/report")["rows"]
    rows.sort(key=lambda row: (row["method"] not in ("tune", "onecycle"), row["ratio"]))
    return table(
        ["recipe", "cost", "median", "mean", "worst"],
        (
            [
                labels.get(row["method"]) or NAMES.get(row["method"], row["method"]),
                f"{row['cost']:g}",
                *(f"{x:.2f}" for x in (median(row["ratios"].values()), row["ratio"], row["worst"])),
            ]
            for row in rows
        ),
    )


def ranges_table() -> str:
    """What a range test costs over the bare loop, by net and tool."""
    rows = measured("speed/ranges")["rows"]
    tools = list(dict.fromkeys(row["contender"] for row in rows))
    cases: dict[str, dict[str, str]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["contender"]] = f"{row['over bare']['median']:.2f}"
    head = ["net", *(NAMES.get(tool, tool).replace(" since 2.5.3", "") for tool in tools)]
    return table(head, ([case, *(of.get(tool, "") for tool in tools)] for case, of in cases.items()))


DEV = measured("regret/report-dev")
OURS = [row for row in DEV["rows"] if row["rule"] == "onecycle"]
myst_substitutions = {
    "regret_dev": regret_table("dev"),
    "regret_test": regret_table("test"),
    "recipes": recipe_table(),
    "ranges": ranges_table(),
    "sweeps_dev": str(sum(len(row["rates"]) for row in OURS)),
    "tasks_dev": str(len(OURS)),
    "refused_dev": str(DEV["rules"]["onecycle"]["refused"]),
    "within_dev": f"{DEV['rules']['onecycle']['within_5_percent']:.0%}",
}
