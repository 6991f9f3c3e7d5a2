from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from benchmarks.regret import data, files, jobs, oracle, sweeps, tasks  # noqa: E402 - where torch is
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
    assert (len(dev), len(test)) == (18, 15)
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

    def counted(name: str, quarter: int, seed: int) -> jobs.Row:
        if len(ran) == 5:
            raise KeyboardInterrupt
        ran.append((quarter, seed))
        return run(name, quarter, seed)

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
    text = report("dev", ["default"], repeats=2, results=tmp_path)
    assert "default" in text
    assert small.name in text
    assert (tmp_path / "report-dev-2.png").stat().st_size > 10_000
    document = json.loads((tmp_path / "report-dev-2.json").read_text())
    (row,) = document["rows"]
    assert len(row["rates"]) == 2


def test_jobs_run_in_processes() -> None:
    rows: list[jobs.Row] = []

    def finish(job: jobs.Job, row: jobs.Row) -> list[jobs.Job]:
        rows.append(row)
        return [replace(job, arguments=({"said": "again"},))] if row["said"] == "more" else []

    first = [jobs.Job(dict, ({"said": said},), "none", 1) for said in ("once", "more")]
    jobs.spread(first, 2, finish)
    assert sorted(row["said"] for row in rows) == ["again", "more", "once"]
