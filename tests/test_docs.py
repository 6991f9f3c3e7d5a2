"""The documentation says what is so: its examples run, its commands exist, its lists are complete."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import onecycle

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {
    "accelerate": "accelerate",
    "ignite": "ignite",
    "jax": "optax",
    "keras": "keras",
    "lightning": "lightning",
    "optuna": "optuna",
    "skorch": "skorch",
    "transformers": "transformers",
}  # what a page needs, by its name
TORCHRUN = "distributed"  # whose program is run by tests/torch/test_distributed.py
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("[!_]*.md") if page.stem != TORCHRUN),
    *sorted((ROOT / "docs/lab").glob("*.md")),
]


def commands(example: Example) -> list[list[str]]:
    """The arguments of every line `$ onecycle …` of a block."""
    lines = [shlex.split(line[2:], comments=True) for line in example.parsed.splitlines() if line[:2] == "$ "]
    return [arguments for command, *arguments in lines if command == "onecycle"]


def onecycle_command(*arguments: str) -> str:
    program = Path(sys.executable).with_name("onecycle")
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, f"onecycle {shlex.join(arguments)}\n{ended.stderr}"
    return ended.stdout


def check(example: Example) -> None:
    """Let the command line say whether it knows the command and its options, without running it."""
    for arguments in commands(example):
        onecycle_command(*arguments, "--help")


def run(example: Example) -> None:
    for arguments in commands(example):
        onecycle_command(*arguments)


SYBIL = Sybil(
    [PythonCodeBlockParser(), CodeBlockParser("console", check), CodeBlockParser("console run", run)]
)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.stem in FRAMEWORKS and not find_spec(FRAMEWORKS[page.stem]):
        pytest.skip(f"{page.stem} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    torch.manual_seed(0)
    for example in SYBIL.parse(page).examples():
        example.evaluate()


@pytest.mark.filterwarnings("default")  # the other tools' own
@pytest.mark.parametrize("tool", ["torch_lr_finder", "fastai", "lightning", "ignite"])
def test_the_code_of_another_tool_runs(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(tool, reason=f"{tool} is not installed: pip install --group peers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.manual_seed(0)
    run_python = PythonEvaluator()
    sybil = Sybil([PythonCodeBlockParser(), CodeBlockParser(f"python {tool}", run_python)])
    document = sybil.parse(ROOT / "docs/coming-from.md")
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
    assert len(examples) > sum(
        line[3:] == "python" for line in document.text.splitlines() if line[:3] == "```"
    )


MARKDOWN = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("[!_]*.md"), *(ROOT / "docs/lab").glob("*.md")])
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub and MyST call the headings of a page."""
    heads = re.findall(r"^#{1,6} (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_pictures_are_described(page: Path) -> None:
    """Those within the repository; `sphinx-build -b linkcheck docs docs/_build/links` asks the others."""
    wrong = []
    for picture, text, target in LINK.findall(re.sub(r"`[^`\n]*`", "", without_code(page))):
        if picture and not text:
            wrong.append(f"{target}: no alternative text")
        if re.match(r"https?://", target):
            if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[^\s<>\"]*)?", target):
                wrong.append(f"{target}: no address")
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(file):
            wrong.append(f"{target}: no such heading")
    assert not wrong


def test_readme_s_table_is_what_was_measured() -> None:
    names = {
        "this library": "onecycle",
        "fastai `valley`": "valley",
        "fastai `minimum`": "minimum",
        "fastai `slide`": "slide",
        "ignite": "ignite",
        "torch-lr-finder": "torch-lr-finder",
        "Lightning up to 2.5.2": "lightning-2.5.2",
        "Lightning since 2.5.3": "lightning",
    }
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    shown = {names[row[0]]: row[1:] for row in rows if row[0] in names}
    assert shown.keys() == set(names.values())
    for part, split in ((slice(0, 3), "dev"), (slice(3, 6), "test")):
        path = ROOT / f"benchmarks/results/regret/report-{split}.json"
        for rule, values in json.loads(path.read_text(encoding="utf-8"))["rules"].items():
            if rule in shown:
                share = f"{values['within_5_percent']:.0%}".replace("%", " %")
                assert shown[rule][part] == [f"{values['mean']:.2f}", f"{values['median']:.3f}", share]


def test_api_page_has_every_public_name() -> None:
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert not [name for name in onecycle.__all__[1:] if f":: onecycle.{name}" not in text]


def test_examples_page_has_every_program() -> None:
    text = (ROOT / "docs/examples.md").read_text(encoding="utf-8")
    assert not [
        path.name for path in (ROOT / "examples").glob("*.py") if f"<../examples/{path.name}>" not in text
    ]


def test_every_requirement_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^[\w-]+(?===)", lock, re.MULTILINE))
    wanted = {re.split(r"[^\w-]", line)[0] for line in metadata.requires("onecycle") or []}
    assert wanted - {"onecycle"} <= locked


def test_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {onecycle.__version__}\n" in citation
