from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import onecycle as oc

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from benchmarks.regret import (  # noqa: E402 - where torch is
    calibration,
    data,
    files,
    find,
    jobs,
    oracle,
    others,
    peers,
    records,
    repeats,
    search,
    sweeps,
    tasks,
)
from benchmarks.regret.report import report  # noqa: E402 - where torch is
from benchmarks.regret.tasks import SPLITS, TASKS, Task, select  # noqa: E402 - where torch is

try:
    data.folder()
except FileNotFoundError as missing:
    pytest.skip(str(missing), allow_module_level=True)

CHEAPEST = "diabetes-mlp-sgd"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The cheapest task, cut to twelve steps and four rates."""
    task = replace(select([CHEAPEST])[0], total_steps=12, seeds=2)
    monkeypatch.setattr(tasks, "TASKS", (task,))
    monkeypatch.setattr(oracle, "COARSE", range(-12, 4, 4))
    monkeypatch.setattr(oracle, "LIMITS", (-12, 0))
    return task


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_builds_trains_and_is_put_back(task: Task) -> None:
    trial = task.build(3)
    state = trial.save()
    trial.set(**task.policy(task.usual_lr)(0))
    losses = [float(trial.step()) for _ in range(2)]
    val_loss = trial.evaluate()
    assert val_loss is not None
    assert math.isfinite(val_loss)
    trial.restore(state)
    trial.set(**task.policy(task.usual_lr)(0))
    assert [float(trial.step()) for _ in range(2)] == losses
    # The same seed gives the same trial, another one another.
    first, other = (float(task.build(seed).step()) for seed in (3, 4))
    assert first == losses[0]
    assert other != first


def test_both_halves_have_every_optimizer_and_loss() -> None:
    dev, test = (select(split=split) for split in SPLITS)
    assert (len(dev), len(test)) == (195, 33)
    assert {task.optimizer for task in dev} == {task.optimizer for task in test} == set(tasks.USUAL)
    assert {task.loss for task in dev} == {task.loss for task in test} == set(tasks.LOSSES)
    assert len({task.name for task in TASKS}) == len(TASKS)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="no task nonsense"):
        select(["nonsense"])


def test_the_oracle_goes_on_where_it_was(
    small: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[int, int]] = []
    run = oracle.run

    def counted(name: str, quarter: int, seed: int, *rest: Any) -> jobs.Row:
        if len(ran) == 5:
            raise KeyboardInterrupt
        ran.append((quarter, seed))
        return run(name, quarter, seed, *rest)

    monkeypatch.setattr(oracle, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        oracle.record([small], workers=1, results=tmp_path)
    path = tmp_path / "oracle" / f"{small.name}.json"
    kept = json.loads(path.read_text())["rows"]
    assert len(kept) == 5
    monkeypatch.setattr(oracle, "run", run)
    oracle.record([small], workers=1, results=tmp_path)
    document = json.loads(path.read_text())
    assert [row for row in document["rows"] if row in kept] == kept
    assert len({(row["quarter"], row["seed"]) for row in document["rows"]}) == len(document["rows"]) >= 8
    assert {row["steps"] for row in document["rows"]} == {12}
    (maker,) = document["made_with"]
    assert maker["torch"] == torch.__version__
    before = path.stat().st_mtime_ns
    oracle.record([small], workers=1, results=tmp_path)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="total_steps is 12, and 13 now"):
        files.read(path, "oracle", replace(small, total_steps=13))


def test_a_hopeless_run_ends_early() -> None:
    row = oracle.run(CHEAPEST, 8, 0)
    assert row["diverged"]
    assert row["steps"] < 100


def test_the_report_needs_what_it_reports(small: Task, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"not complete: {small.name}"):
        report(results=tmp_path)
    oracle.record([small], workers=1, results=tmp_path)
    with pytest.raises(FileNotFoundError, match=f"not complete: {small.name}"):
        report(results=tmp_path)
    sweeps.record([small], workers=1, seeds=4, results=tmp_path)
    assert len(sweeps.load(small, tmp_path)) == 4
    text = report("dev", ["default"], results=tmp_path)
    assert "default" in text
    assert small.name in text
    assert (tmp_path / "report-dev.png").stat().st_size > 10_000
    document = json.loads((tmp_path / "report-dev.json").read_text())
    (row,) = document["rows"]
    assert len(row["rates"]) == 4


def test_what_else_was_recorded_enters_the_report(
    small: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = replace(small, total_steps=60)
    monkeypatch.setattr(tasks, "TASKS", (task,))
    monkeypatch.setattr(others, "WAYS", {"AdamW 3e-3, linear": others.WAYS["AdamW 3e-3, linear"]})
    how: Any = {"workers": 1, "results": tmp_path}
    oracle.record([task], **how)
    sweeps.record([task], seeds=3, **how)
    assert "none recorded" in report(results=tmp_path)
    find.record([task], seeds=2, **how)
    repeats.record([task], seeds=3, **how)
    others.record([task], seeds=2, **how)
    (way,) = {row["way"] for row in records.load("others", task, tmp_path)}
    assert [row["seed"] for row in records.load("find", task, tmp_path)] == [0, 1]
    text = report(results=tmp_path)
    assert "\nfind_lr(0.2) " in text
    assert "\ndefault, 4 sweeps " in text
    kept = records.load("repeats", task, tmp_path)
    assert [(row["repeats"], row["seed"]) for row in kept] == [(4, 0), (4, 1), (4, 2)]
    assert all(200 < row["cost"] <= 400 for row in kept)
    again = oc.range_test(task.build(1), seed=4, repeats=4, evaluations=0, progress=False).suggest()
    assert (kept[1]["rate"], kept[1]["low"], kept[1]["high"]) == (again.value, again.low, again.high)
    assert f"\n{way} " in text
    document = json.loads((tmp_path / "report-dev.json").read_text())
    assert document["rules"]["find_lr(0.2)"]["cost"] == pytest.approx(12 / 60)
    monkeypatch.setattr(search, "SEARCHES", {"random search": search.random_search})
    monkeypatch.setitem(search.REPEATS, "random search", 20)
    assert "random search needs" in search.report(results=tmp_path)
    assert calibration.report(results=tmp_path, figure=tmp_path / "c.png").startswith("claimed")
    assert (tmp_path / "c.png").stat().st_size > 5000
    # With another use, the default rule stands beside what it suggests for 1cycle.
    oracle.record([task], use="constant", **how)
    assert "as for 1cycle" in report(use="constant", results=tmp_path)
    assert (tmp_path / "report-dev-constant.json").is_file()


def test_a_use_has_its_own_policy() -> None:
    task = select([CHEAPEST])[0]
    assert task.policy(0.3, "constant")(7) == {"lr": 0.3}
    cycles = task.policy(0.4, "cyclical")
    assert [round(cycles(step)["lr"], 3) for step in (0, 38, 76, 114)] == [0.1, 0.4, 0.1, 0.4]
    assert max(task.policy(0.4)(step)["lr"] for step in range(300)) == pytest.approx(0.4, rel=0.01)


def test_a_tool_that_fails_is_a_refusal_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict[str, float | None]:
        raise RuntimeError("no curve")

    monkeypatch.setattr(peers, "version", lambda _: "1.0")
    monkeypatch.setitem(peers.TOOLS, "fastai", broken)
    row = peers.run(CHEAPEST, "fastai", 0)
    assert (row["rates"], row["refused"], row["version"]) == ({}, "RuntimeError: no curve", "1.0")
    monkeypatch.setitem(
        peers.TOOLS, "fastai", lambda *_: {"fastai valley": 0.1234567891, "fastai slide": 0.0}
    )
    assert peers.run(CHEAPEST, "fastai", 0)["rates"] == {"fastai valley": 0.1234568, "fastai slide": None}
    assert (
        peers.run("fashion-vit-muon", "fastai", 0)["refused"] == "takes one optimizer, and this task has two"
    )


def test_the_fixed_schedule_warms_up_and_falls_to_zero() -> None:
    shares = (0.0, 0.05, 0.1, 0.55, 1.0)
    assert [others.falling(share) for share in shares] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_jobs_run_in_processes() -> None:
    rows: list[jobs.Row] = []

    def finish(job: jobs.Job, row: jobs.Row) -> list[jobs.Job]:
        rows.append(row)
        return [replace(job, arguments=({"said": "again"},))] if row["said"] == "more" else []

    first = [jobs.Job(dict, ({"said": said},), "none", 1) for said in ("once", "more")]
    jobs.spread(first, 2, finish)
    assert sorted(row["said"] for row in rows) == ["again", "more", "once"]
