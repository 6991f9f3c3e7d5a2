"""The speed benchmark measures, writes and prints; what it finds is in docs/speed.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.regret.data import ROOT
from benchmarks.speed import files, memory, timing, trace
from benchmarks.speed.__main__ import REPEATS, main
from benchmarks.speed.finders import FINDERS
from benchmarks.speed.nets import NETS
from benchmarks.speed.report import PARTS, report
from onecycle.torch import Trial


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    clock = iter(range(100))
    monkeypatch.setattr("time.process_time", lambda: next(clock) ** 2)
    times = timing.in_turn({name: lambda name=name: lambda: order.append(name) for name in "abc"}, 2)  # type: ignore[misc]
    assert "".join(order) == "abcbcacab"
    assert times == {"a": [15, 23], "b": [7, 27], "c": [11, 19]}


def test_ratios_are_of_pairs() -> None:
    times = {"ours": [1.0, 2.0, 4.0], "theirs": [10.0, 10.0, 10.0]}
    assert timing.rows({"case": "x"}, times, "ours", per=2) == [
        {
            "case": "x",
            "contender": "theirs",
            "seconds": 5.0,
            "seconds_ours": 0.5,
            "ratio": {"min": 2.5, "median": 5.0, "max": 10.0, "pairs": 3},
        }
    ]


def test_exponents() -> None:
    assert timing.exponent([1, 10, 100], [2, 2000, 2000000]) == 3


@pytest.mark.parametrize("net", NETS)
def test_a_range_test_and_the_bare_loop_train_alike(net: str) -> None:
    """As many updates; and only the range test leaves the net as it was."""
    for name in ("bare", "onecycle"):
        torch.manual_seed(0)
        job = NETS[net](4, 10)
        before = [p.detach().clone() for p in job.model.parameters()]
        made: list[int] = []
        job.optimizer.register_step_post_hook(lambda *_, made=made: made.append(1))
        FINDERS[name](job)()
        assert len(made) == 10
        same = all(torch.equal(p, q) for p, q in zip(job.model.parameters(), before, strict=True))
        assert same == (name == "onecycle")


@pytest.mark.parametrize("part", ["ranges", "schedules", "reading", "start", "scale", "engines"])
def test_a_part_is_measured_written_and_printed(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", part, "--repeats", "1", "--scale", "0.001", "--results", str(tmp_path)]) == 0
    document = files.read(part, tmp_path)
    assert {"onecycle", "torch", "python", "processor", "threads"} <= document["made_with"].keys()
    assert document["rows"]
    table = capsys.readouterr().out.strip().splitlines()
    lines = {row["case"] for row in document["rows"]} if part == "ranges" else document["rows"]
    assert len(table) == 2 + len(lines)
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").is_file(), reason="Linux tells the peak")
def test_the_peak_of_a_process_of_its_own() -> None:
    """Parameters, gradients, momentum and the copy of the first: 4 times 4 bytes."""
    parameters = memory.LAYERS * (1024 * 1024 + 1024)
    assert 0.9 < memory._peak("onecycle", "fresh", 1024) / (4 * 3 * parameters) < 2


def test_waits_for_the_device_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that reads each loss waits at each step; a range test once a block."""
    made = Trial.__init__

    def as_on_a_device(trial: Trial, *args: Any, **kwargs: Any) -> None:
        made(trial, *args, **kwargs)
        trial._on_cpu = False  # where a loss is read at once

    monkeypatch.setattr(Trial, "__init__", as_on_a_device)
    rows = {row["contender"]: row for row in trace.measure(40, tmp_path)}
    assert rows["bare, each loss read"]["waits a step"] - rows["bare"]["waits a step"] == 1
    assert rows["onecycle"]["waits a step"] < 0.5
    assert {path.name for path in tmp_path.iterdir()} == {
        "trace-bare.json.gz",
        "trace-bare-each-loss-read.json.gz",
        "trace-onecycle.json.gz",
    }


def test_all_parts_have_rounds_and_tables() -> None:
    assert set(REPEATS) == set(PARTS)


def test_what_was_not_measured_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "start", "--results", str(tmp_path)]) == 1
    text = (
        f"error: {tmp_path / 'start.json'}: not measured yet: run `python -m benchmarks.speed report start`\n"
    )
    assert capsys.readouterr().err == text
    with pytest.raises(SystemExit):
        main(["report", "colour"])
    assert "no part 'colour'; the parts are ranges, memory" in capsys.readouterr().err


def test_the_results_kept_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    for part in PARTS:
        document = json.loads((files.RESULTS / f"{part}.json").read_text(encoding="utf-8"))
        assert (document["format"], document["part"]) == ("onecycle.speed", part)
        assert report([part]) in page, f"print it with `python -m benchmarks.speed tables {part}`"
    assert not re.search(r"\bnan\b|\binf\b", report(PARTS))
