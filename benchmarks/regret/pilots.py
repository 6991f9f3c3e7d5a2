"""Pilots, kept by length and rate, and how `onecycle._pilots` reads them with these constants or others."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np

import onecycle as oc
from benchmarks.regret import oracle, records, sweeps
from benchmarks.regret.choose import left_out
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Row
from benchmarks.regret.measure import Floats, Oracle
from benchmarks.regret.tasks import Task, select
from onecycle import _pilots
from onecycle._find import SWEEP, Seen, look

KIND, COLUMNS = "pilots", ("steps", "quarter", "seed")
SEEDS = 3
BELOW, ABOVE = 7, 8  # quarters of a decade around the oracle's best rate
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
DOUBTS = (0.0, 0.2, 0.4, 0.6)


def lengths(task: Task) -> _pilots.Plan:
    """What a search that may spend one training has room for after its sweep, and no more than it needs."""
    longest = max(int(_pilots.LONGEST * task.total_steps), _pilots.SHORTEST)
    updates = min(task.total_steps - SWEEP, math.ceil(_pilots.COSTS * longest))
    how = _pilots.plan(updates, task.total_steps)
    assert how is not None
    return how


def run(name: str, steps: int, quarter: int, seed: int) -> Row:
    """One pilot of a fresh trial."""
    trial = select([name])[0].build(seed)
    begin = time.process_time()
    before = _before(name, seed)
    history = oc.train(trial, oc.one_cycle(10 ** (quarter / 4), steps), progress=False)
    loss = history.last("val_loss")
    diverged = history.diverged or loss is None or not math.isfinite(loss)
    return {
        "steps": steps,
        "quarter": quarter,
        "seed": seed,
        "before": before,
        "val_loss": math.nan if loss is None else loss,
        "diverged": diverged,
        "seconds": round(time.process_time() - begin, 3),
        "said": f"{steps} updates, rate 10^{quarter / 4:.2f}, seed {seed}: "
        + ("diverged" if diverged else f"loss {loss:.4g}"),
    }


@cache
def _before(name: str, seed: int) -> float | None:
    return select([name])[0].build(seed).evaluate()


def record(tasks: Sequence[Task], *, workers: int = 2, seeds: int = SEEDS, results: Path = RESULTS) -> None:
    """Run all that is missing."""

    def wanted(task: Task) -> Iterator[tuple[int, int, int]]:
        best = round(4 * math.log10(Oracle.of(oracle.load(task, results)).best_rate))
        quarters = range(best - BELOW, best + ABOVE + 1)
        yield from product(lengths(task).steps, quarters, range(seeds))

    records.record(
        KIND,
        COLUMNS,
        tasks,
        run,
        wanted,
        workers=workers,
        results=results,
        steps=lambda task: lengths(task).steps[-1],
    )


# Reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recorded:
    """The pilots of one task from one seed, and the sweep that a search would begin with."""

    task: Task
    oracle: Oracle
    seen: Seen
    before: float
    ends: Mapping[tuple[int, int], float]  # by steps and quarter; inf: diverged

    def settled(self) -> float:
        """What `onecycle._pilots.settle` says; the usual rate where it refuses."""

        def ends(rates: Sequence[float], steps: int) -> list[float]:
            return [self._end(steps, round(4 * math.log10(rate))) for rate in rates]

        begin = 10 ** (round(4 * math.log10(self.seen.begin)) / 4)  # on the grid
        how, total = lengths(self.task), self.task.total_steps
        try:
            return _pilots.settle(ends, begin, how, total, self.before, noise=self.seen.noise).value
        except oc.Inconclusive:
            return self.task.usual_lr

    def _end(self, steps: int, quarter: int) -> float:
        lowest = min(q for _, q in self.ends)
        return self.ends.get((steps, max(quarter, lowest)), math.inf)


def load(task: Task, results: Path = RESULTS) -> list[Recorded]:
    """One for each seed that has been recorded."""
    rows = records.load(KIND, task, results)
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        curve = sweeps.load(task, results)[seed]
        try:
            seen = look(curve)
        except oc.Inconclusive:
            seen = Seen(None, begin=task.usual_lr)
        ends = {
            (row["steps"], row["quarter"]): math.inf if row["diverged"] else row["val_loss"] for row in mine
        }
        found.append(Recorded(task, Oracle.of(oracle.load(task, results)), seen, mine[0]["before"], ends))
    return found


def report(results: Path = RESULTS) -> str:
    """Final loss over the oracle's best, a geometric mean over tasks, by the constants of the reading."""
    cases = {task.name: load(task, results) for task in select(split="dev")}
    cases = {name: found for name, found in cases.items() if found}
    pairs = list(product(POWERS, DOUBTS))
    table = np.array([_ratios(cases, *pair) for pair in pairs])
    alone = np.array([np.mean([_ratio(each, each.seen.begin) for each in found]) for found in cases.values()])
    pilots = table[pairs.index((_pilots.POWER, _pilots.DOUBT))]
    lines = [
        f"{len(cases)} tasks of dev; final loss over the best of the oracle's grid",
        f"{'':28}{'mean':>8}{'median':>8}{'worst':>8}{'<= 5 %':>8}",
        _line("the range test alone", alone),
        *(
            _line(f"power {power:g}, doubt {doubt:g}", row)
            for (power, doubt), row in zip(pairs, table, strict=True)
        ),
        f"the best of these, left out {math.exp(left_out(table)):8.3f}",
        "",
        f"{'task':32}{'sweep':>8}{'pilots':>8}",
        *(
            f"{name:32}{math.exp(a):8.3f}{math.exp(b):8.3f}"
            for name, a, b in zip(cases, alone, pilots, strict=True)
        ),
    ]
    return "\n".join(lines)


def _ratios(cases: Mapping[str, Sequence[Recorded]], power: float, doubt: float) -> Floats:
    """Logarithms, one for each task, of the mean ratio over seeds."""
    with mock.patch.multiple(_pilots, POWER=power, DOUBT=doubt):
        return np.array(
            [np.mean([_ratio(each, each.settled()) for each in found]) for found in cases.values()]
        )


def _ratio(case: Recorded, rate: float) -> float:
    return math.log1p(case.oracle.regret(rate))


def _line(name: str, x: Floats) -> str:
    return (
        f"{name:28}{math.exp(x.mean()):8.3f}{math.exp(np.median(x)):8.3f}{math.exp(x.max()):8.2f}"
        f"{(x <= math.log1p(0.05)).mean():8.0%}"
    )
