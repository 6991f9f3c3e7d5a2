"""`find_lr` on the tasks: what it suggests from each seed, on what evidence, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import onecycle as oc
from benchmarks.regret import files, records
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Row
from benchmarks.regret.tasks import Task, select
from onecycle._find import search

KIND, COLUMNS = "find", ("budget", "seed")
BUDGET = 0.2


def run(name: str, budget: float, seed: int) -> Row:
    """One search, from a fresh trial of that seed."""
    task = select([name])[0]
    trial = task.build(seed)
    begin = time.process_time()
    row: Row = {"budget": budget, "seed": seed, "rate": None, "refused": None}
    spent: list[int] = [0, 0]  # of the sweep and of the pilots
    try:
        found = search(
            trial,
            total_steps=task.total_steps,
            budget=budget,
            seed=seed,
            progress=False,
            on_curve=lambda curve: spent.__setitem__(0, len(curve)),
            on_pilot=lambda pilots: spent.__setitem__(1, sum(pilot.steps for pilot in pilots)),
        )
    except oc.Inconclusive as no:
        row |= {"refused": no.reason, "cost": sum(spent)}
    else:
        row |= {
            **read(found.suggestion),
            "rule": found.suggestion.rule,
            "cost": found.cost,
            "pilots": [
                {"max_lr": files.short([pilot.max_lr])[0], "steps": pilot.steps, "loss": pilot.loss}
                for pilot in found.pilots
            ],
        }
    row["seconds"] = round(time.process_time() - begin, 3)
    said = "refused" if row["rate"] is None else f"{row['rate']:.3g} by {row['rule']}"
    return {**row, "said": f"seed {seed}: {said}"}


def read(suggestion: oc.Suggestion) -> Row:
    """What a row keeps of a suggestion."""
    return {"rate": suggestion.value, "low": suggestion.low, "high": suggestion.high}


def record(
    tasks: Sequence[Task],
    *,
    budget: float = BUDGET,
    seeds: int = 20,
    workers: int = 2,
    results: Path = RESULTS,
) -> None:
    """Search all that is missing."""
    records.record(
        KIND,
        COLUMNS,
        tasks,
        run,
        lambda _: [(budget, seed) for seed in range(seeds)],
        workers=workers,
        results=results,
        steps=lambda task: round(budget * task.total_steps),
    )
