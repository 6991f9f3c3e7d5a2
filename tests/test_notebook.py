"""What a notebook shows of the library's objects, and while they are made."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import onecycle as oc
from onecycle._progress import live
from report_folders import curve

TOUR = Path(__file__).parent.parent / "docs/tour.ipynb"


def shown(thing: Any) -> ElementTree.Element:
    """The representation, which must be well-formed and stand alone."""
    text = thing._repr_html_()
    assert "<script" not in text
    assert "<style" not in text
    return ElementTree.fromstring(f"<body>{text}</body>")


def drawings(root: ElementTree.Element) -> list[str]:
    """Alternative texts of the drawings."""
    labels = [node.get("aria-label") for node in root.iter("{http://www.w3.org/2000/svg}svg")]
    return [label for label in labels if label is not None]


def words(root: ElementTree.Element) -> str:
    return " ".join(" ".join(root.itertext()).split())


def test_a_curve_shows_itself_with_its_suggestion() -> None:
    root = shown(curve())
    (label,) = drawings(root)
    assert label.startswith("Loss over learning rate, 100 points from 10⁻⁶ to 10. It falls from 2.4")
    assert re.search(r"max_lr 0\.0\d+ \(0\.0\d+ to 0\.\d+\), rule onecycle", words(root))


def test_a_curve_without_a_suggestion_shows_why() -> None:
    root = shown(oc.Curve(np.geomspace(1e-5, 1, 50), np.ones(50)))
    assert len(drawings(root)) == 1
    assert "No suggestion: the loss is flat" in words(root)


@pytest.mark.parametrize("n", [0, 1])
def test_a_curve_of_no_length_shows_itself(n: int) -> None:
    assert "No suggestion" in words(shown(oc.Curve([0.1] * n, [1.0] * n)))


def test_a_suggestion_shows_its_interval_and_reason() -> None:
    found = oc.Suggestion(0.03, 0.01, 0.1, "<b>rule", "a < b & c")
    assert words(shown(found)) == "max_lr 0.03 , 0.01 to 0.1, by rule <b>rule a < b & c"


def test_a_recipe_shows_its_values_and_its_schedules() -> None:
    root = shown(oc.Recipe(0.05, batch_size=64, total_steps=100, evidence={"reason": "<i>"}))
    assert drawings(root)[0] == (
        "Learning rate over 100 updates: 0.005 at the first, least 0.0005, most 0.05 at "
        "update 45, 0.0005 at the last."
    ).replace("0.0005", "5 \N{MULTIPLICATION SIGN} 10⁻⁵")
    for text in (
        "max_lr 0.05",
        "momentum 0.95 to 0.85",
        "batch_size 64",
        "total_steps 100",
        "form paper",
        "<i>",
    ):
        assert text in words(root)
    assert drawings(shown(oc.Recipe(0.05))) == []


def test_a_policy_shows_each_of_its_schedules() -> None:
    assert len(drawings(shown(oc.one_cycle(0.1, 100)))) == 2
    (endless,) = drawings(shown(oc.cyclical(0.01, 0.1, 50)))
    assert endless.startswith("Learning rate over 201 updates: 0.01 at the first")
    assert len(drawings(shown(oc.one_cycle(0.1, 1, momentum=None)))) == 1


class Cell:
    """Stands in for IPython's display in a kernel."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, str]] = []

    def display(self, bundle: dict[str, str], raw: bool, display_id: bool) -> Cell:
        assert raw
        assert display_id
        self.bundles.append(bundle)
        return self

    def update(self, bundle: dict[str, str], raw: bool) -> None:
        assert raw
        self.bundles.append(bundle)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    found = Cell()
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=found.display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return found


def test_progress_in_a_notebook_is_one_cell_that_ends_empty(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with live("range test <1>", 100) as show:
        show(10, 0.0123, [3.0, 2.0, 1.0])
    begin, first, second, last = cell.bundles
    assert begin == last
    assert "range test <1>" in first["text/plain"]
    assert "range test &lt;1&gt;" in second["text/html"]
    for text in ("10/100", "at 0.0123", "loss 1"):
        assert text in second["text/plain"]
    assert last == {"text/plain": "", "text/html": ""}
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_notebook_does_not_flood_it(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(i / 1000 for i in range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with live("training", 1000) as show:
        for done in range(1000):
            show(done, 0.1, [1.0])
    assert 3 < len(cell.bundles) < 10


def test_progress_in_a_notebook_can_be_switched_off(cell: Cell) -> None:
    with live("training", 10, wanted=False) as show:
        show(1, 0.1, [1.0])
    assert cell.bundles == []


@pytest.mark.filterwarnings("ignore:.*zmq:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:.*(zmq|jupyter|tornado|traitlets|nbformat).*")
def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr("sys.stdin", io.StringIO())  # pytest's own asks for one that a job may not have
    notebook = nbformat.read(TOUR, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [o["data"]["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    assert sum("<svg" in page for page in pages) == 3
    assert any("by rule onecycle" in page for page in pages)
    assert any("accuracy on 360 digits" in o.get("text", "") for o in outputs)
