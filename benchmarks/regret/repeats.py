"""Several sweeps of one trial: what the default rule reads off them together, from each seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import onecycle as oc
from benchmarks.regret import records
from benchmarks.regret.files import RESULTS
from benchmarks.regret.find import read
from benchmarks.regret.jobs import Row
from benchmarks.regret.sweeps import SEEDS, STEPS
from benchmarks.regret.tasks import Task, select

KIND, COLUMNS = "repeats", ("repeats", "seed")
REPEATS = 4


def run(name: str, repeats: int, seed: int) -> Row:
    """Range tests of one fresh trial, on other batches each; no two seeds share an order of the data."""
    trial = select([name])[0].build(seed)
    begin = time.process_time()
    curve = oc.range_test(
        trial, steps=STEPS, repeats=repeats, seed=seed * repeats, evaluations=0, progress=False
    )
    row: Row = {"repeats": repeats, "seed": seed, "rate": None, "refused": None, "cost": len(curve)}
    try:
        row |= read(curve.suggest())
    except oc.Inconclusive as no:
        row["refused"] = no.reason
    row["seconds"] = round(time.process_time() - begin, 3)
    said = "refused" if row["rate"] is None else f"{row['rate']:.3g}"
    return {**row, "said": f"seed {seed}: {said}"}


def record(
    tasks: Sequence[Task],
    *,
    repeats: int = REPEATS,
    seeds: int = SEEDS,
    workers: int = 2,
    results: Path = RESULTS,
) -> None:
    """Sweep all that is missing."""
    records.record(
        KIND,
        COLUMNS,
        tasks,
        run,
        lambda _: [(repeats, seed) for seed in range(seeds)],
        workers=workers,
        results=results,
        steps=lambda _: STEPS * repeats,
    )
