"""The oracle: each task trained at a dense grid of rates, from three seeds or more.

The rates are the maxima of 1cycle; with another use, those of a cyclical
policy, or a rate that holds throughout.

Rates are whole quarters of a decade. First half decades from 1e-5 to 10, and further where the best lies
at an edge; then quarters of a decade within one decade of the best, until the best stays where it is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import onecycle as oc
from benchmarks.regret import files, jobs
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Job, Row
from benchmarks.regret.tasks import Task, select
from onecycle._suggestion import Use
from onecycle._train import History

COARSE = range(-20, 5, 2)  # quarters of a decade: 1e-5 to 10
LIMITS = (-28, 8)  # 1e-7 to 100
HOPELESS = 1000  # times the first loss, in the mean of 20 steps: from there no run has come back
POINTS = 50  # means that a run's training loss is kept as


class _Watched(History):
    """A history that also counts a hopeless loss as diverged, so that training ends there."""

    @property
    def diverged(self) -> bool:
        if super().diverged:
            return True
        recent = [row["loss"] for row in self.rows[-20:]]
        first = self.rows[0]["loss"] if self.rows else 0.0
        return len(recent) == 20 and statistics.fmean(recent) - first > HOPELESS * abs(first)


def run(name: str, quarter: int, seed: int, use: Use = "one_cycle") -> Row:
    """One full training; what it ended with."""
    task = select([name])[0]
    rate = 10 ** (quarter / 4)
    trial = task.build(seed)
    begin = time.process_time()
    history = oc.train(trial, task.policy(rate, use), history=_Watched(), progress=False)
    seconds = time.process_time() - begin
    losses = [row["loss"] for row in history.rows]
    val_loss = history.last("val_loss")
    diverged = history.diverged or val_loss is None or not math.isfinite(val_loss)
    tail = statistics.fmean(losses[-max(len(losses) // 20, 1) :])
    return {
        "rate": rate,
        "quarter": quarter,
        "seed": seed,
        "val_loss": math.nan if val_loss is None else val_loss,
        "train_loss": tail,
        "diverged": diverged,
        "steps": len(losses),
        "seconds": round(seconds, 3),
        "curve": files.short(_means(losses), 5),
        "said": f"rate {rate:.2e} seed {seed} " + ("diverged" if diverged else f"loss {val_loss:.4g}"),
    }


def load(task: Task, results: Path = RESULTS, use: Use = "one_cycle") -> dict[str, Any]:
    """What has been recorded of a task."""
    return files.read(_path(task, results, use), _kind(use), task)


def record(
    tasks: Sequence[Task], *, workers: int = 2, results: Path = RESULTS, use: Use = "one_cycle"
) -> None:
    """Train all that is missing, and keep each run as soon as it is done."""
    paths = {task.name: _path(task, results, use) for task in tasks}
    documents = {task.name: load(task, results, use) for task in tasks}
    by_name = {task.name: task for task in tasks}
    waiting: dict[str, int] = defaultdict(int)
    for task in tasks:
        documents[task.name].update(
            usual_lr=task.usual_lr, signed=task.signed, trivial_loss=task.trivial_loss()
        )

    def more(name: str) -> list[Job]:
        task = by_name[name]
        found = [
            Job(run, (name, quarter, seed, use), name, task.total_steps)
            for quarter, seed in missing(documents[name]["rows"], task.seeds)
        ]
        waiting[name] += len(found)
        return found

    def finish(job: Job, row: Row) -> Iterable[Job]:
        document = documents[job.task]
        document["rows"].append({key: value for key, value in row.items() if key != "said"})
        document["rows"].sort(key=lambda row: (row["quarter"], row["seed"]))
        files.write(paths[job.task], document)
        waiting[job.task] -= 1
        return more(job.task) if waiting[job.task] == 0 else ()

    jobs.spread([job for name in by_name for job in more(name)], workers, finish)


def _kind(use: Use) -> str:
    return "oracle" if use == "one_cycle" else f"oracle-{use}"


def _path(task: Task, results: Path, use: Use) -> Path:
    return results / _kind(use) / f"{task.name}.json"


def missing(rows: Sequence[Row], seeds: int) -> list[tuple[int, int]]:
    """What to run next, as (quarter, seed): nothing where the grid is complete."""
    done = {(row["quarter"], row["seed"]) for row in rows}
    wanted = set(COARSE)
    while True:
        todo = [(q, seed) for q in sorted(wanted) for seed in range(seeds) if (q, seed) not in done]
        best = None if todo else _best(rows)
        if best is None:
            return todo
        grown = wanted | set(_around(best, wanted))
        if grown == wanted:
            return []
        wanted = grown


def _around(best: int, wanted: set[int]) -> Iterator[int]:
    """The grid that the present best asks for: further out at an edge, finer anywhere else."""
    low, high = min(wanted), max(wanted)
    if best == low and low > LIMITS[0]:
        yield low - 2
    elif best == high and high < LIMITS[1]:
        yield high + 2
    else:
        yield from range(max(best - 4, LIMITS[0]), min(best + 4, LIMITS[1]) + 1)


def _best(rows: Sequence[Row]) -> int | None:
    """The rate, in quarters of a decade, with the least mean loss of those where no seed diverged."""
    losses: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        losses[row["quarter"]].append(math.inf if row["diverged"] else row["val_loss"])
    means = {quarter: statistics.fmean(values) for quarter, values in losses.items()}
    best = min(means, key=lambda quarter: means[quarter], default=None)
    return None if best is None or math.isinf(means[best]) else best


def _means(losses: Sequence[float]) -> list[float]:
    parts = min(POINTS, len(losses))
    edges = [len(losses) * i // parts for i in range(parts + 1)]
    return [statistics.fmean(losses[a:b]) for a, b in pairwise(edges)]
