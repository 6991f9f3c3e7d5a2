"""The sweeps: range tests of each task, from 20 seeds, kept so that rules can be tried without training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onecycle as oc
from benchmarks.regret import files, records
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Row
from benchmarks.regret.tasks import Task, select

SEEDS = 20
STEPS = 100


def run(name: str, seed: int) -> Row:
    """One range test of a fresh trial: the same seed for the weights and for the order of the data."""
    trial = select([name])[0].build(seed)
    begin = time.process_time()
    curve = oc.range_test(trial, steps=STEPS, seed=seed, evaluations=0, progress=False)
    seconds = time.process_time() - begin
    document = json.loads(curve.to_json())
    for column in ("value", "loss"):
        document[column] = [n if isinstance(n, str) else files.short([n])[0] for n in document[column]]
    moved = document["moved"] or []  # measured at one step of ten
    document["moved"] = {i: files.short([n])[0] for i, n in enumerate(moved) if not isinstance(n, str)}
    document["settings"].pop("versions", None)
    return {
        "seed": seed,
        "seconds": round(seconds, 3),
        "curve": document,
        "said": f"seed {seed}, {curve.settings['endings'][0]}",
    }


def record(tasks: Sequence[Task], *, workers: int = 2, seeds: int = SEEDS, results: Path = RESULTS) -> None:
    """Sweep all that is missing, and keep each curve as soon as it is there."""
    records.record(
        "curves",
        ["seed"],
        tasks,
        run,
        lambda _: [(seed,) for seed in range(seeds)],
        workers=workers,
        results=results,
        steps=lambda _: STEPS,
    )


def load(task: Task, results: Path = RESULTS) -> list[oc.Curve]:
    """The curves of a task that have been recorded, by seed."""
    return [_curve(row["curve"]) for row in records.load("curves", task, results)]


def _curve(document: Mapping[str, Any]) -> oc.Curve:
    moved = document.get("moved")
    steps = range(len(document["value"]))
    column = None if moved is None else [moved.get(str(step), "NaN") for step in steps]
    return oc.Curve.from_json(json.dumps({**document, "moved": column}))
