"""Reading rules, judged on stored sweeps against the oracle; and what was suggested and stored before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import onecycle as oc
from benchmarks.regret import find, oracle, peers, records, sweeps
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import Oracle
from benchmarks.regret.tasks import Task
from onecycle._suggestion import Use

Rule = Callable[[oc.Curve], oc.Suggestion]
DEFAULT = "default"
CLOSE = 0.15  # decades, a standard deviation that a user does not mind


@dataclass(frozen=True)
class Reading:
    """What a rule read off one sweep, or the usual rate where it refused, and what that loses.

    `cost` is what the evidence took, as a share of the training; `held` says whether the interval holds the
    oracle's best rate, None where there is no interval.
    """

    task: str
    seed: int
    rate: float
    regret: float
    normalised: float
    diverged: bool
    refused: str | None  # why
    cost: float
    held: bool | None = None


@dataclass(frozen=True)
class Case:
    """A task with all that has been recorded of it."""

    task: Task
    oracle: Oracle
    curves: tuple[oc.Curve, ...]


def named(name: str, use: Use = "one_cycle") -> Rule:
    """The rule of `Curve.suggest` by that name, `DEFAULT` for the one it takes by itself."""
    return lambda curve: curve.suggest(None if name == DEFAULT else name, use=use)


def load(
    task: Task, *, loss: str = "val_loss", results: Path = RESULTS, use: Use = "one_cycle"
) -> Case | None:
    """The oracle and the sweeps of a task; None where one of them is still to be recorded."""
    document = oracle.load(task, results, use)
    curves = sweeps.load(task, results)
    if oracle.missing(document["rows"], task.seeds) or not curves:
        return None
    return Case(task, Oracle.of(document, loss), tuple(curves))


def judge(rule: Rule, case: Case) -> list[Reading]:
    """Apply a rule to each sweep of a task."""
    readings = []
    for curve in case.curves:
        seed, cost = int(curve.seed[0]), len(curve) / case.task.total_steps
        try:
            read = rule(curve)
        except oc.Inconclusive as no:
            readings.append(_reading(case, seed, None, no.reason, cost))
        else:
            interval = (read.low, read.high) if read.low < read.high else None
            readings.append(_reading(case, seed, read.value, None, cost, interval))
    return readings


def stored(case: Case, kind: str, results: Path = RESULTS, **wanted: object) -> list[Reading]:
    """What was suggested and kept in rows of that kind, with these fields."""
    return [
        _reading(
            case,
            row["seed"],
            row["rate"],
            row["refused"],
            row["cost"] / case.task.total_steps,
            (row["low"], row["high"]) if row["rate"] is not None else None,
        )
        for row in records.load(kind, case.task, results)
        if all(row[name] == value for name, value in wanted.items())
    ]


def searched(case: Case, budget: float, results: Path = RESULTS) -> list[Reading]:
    """What `find_lr` suggested with that budget."""
    return stored(case, find.KIND, results, budget=budget)


def installed(case: Case, results: Path = RESULTS) -> dict[str, list[Reading]]:
    """What other tools suggested, as installed packages, by rule."""
    readings: dict[str, list[Reading]] = {}
    for row in records.load(peers.KIND, case.task, results):
        for rule in peers.RULES[row["tool"]]:
            rate = row["rates"].get(rule)
            refused = None if rate is not None else row["refused"] or "gives no rate"
            reading = _reading(case, row["seed"], rate, refused, peers.STEPS / case.task.total_steps)
            readings.setdefault(f"{rule} (installed)", []).append(reading)
    return readings


def _reading(
    case: Case,
    seed: int,
    rate: float | None,
    refused: str | None,
    cost: float,
    interval: tuple[float, float] | None = None,
) -> Reading:
    rate = case.task.usual_lr if rate is None else rate
    return Reading(
        case.task.name,
        seed,
        rate,
        case.oracle.regret(rate),
        case.oracle.normalised(rate),
        case.oracle.diverges(rate),
        refused,
        cost,
        None if interval is None else interval[0] <= case.oracle.best_rate <= interval[1],
    )


def spread(readings: Sequence[Reading]) -> float:
    """Standard deviation, over seeds, of the suggested rate in decades; refusals left out."""
    return deviation([reading.rate for reading in readings if reading.refused is None])


def deviation(rates: npt.ArrayLike) -> float:
    """Standard deviation of rates in decades, 0 of one or none."""
    decades = np.log10(rates)
    return float(np.std(decades, ddof=1)) if decades.size > 1 else 0.0
