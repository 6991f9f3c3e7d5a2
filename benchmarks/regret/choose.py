"""How the default rule's constants for SGD were chosen: on dev, with one task left out at a time.

The rate is a share of divergence^(1 - w) * minimum^w with SGD; and 0.4 of the rate with the least loss with
any other optimizer, or where nothing diverged. For each w, and each power of the passes over the data, the
share is the one with the least mean regret over all tasks but one, and is tried on that one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

import onecycle as oc
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import Floats, Oracle
from benchmarks.regret.rules import load
from benchmarks.regret.tasks import select
from onecycle._anchors import read
from onecycle._default_rule import for_momentum, for_passes

WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
POWERS = (0.0, 1 / 3, 1 / 2)
SHARES = 10 ** np.arange(-1.0, 0.11, 0.1)
OTHERS = 0.4  # the share with any other optimizer
CAP = 1.0  # a regret above it counts as this in the second column: one task has nearly all of the mean


@dataclass(frozen=True)
class _Task:
    """What is read off each sweep of a task: minimum, divergence, factor, passes; NaN: not there."""

    oracle: Oracle
    usual_lr: float
    sgd: bool
    seen: Floats

    def regret(self, weight: float, power: float, share: float) -> float:
        """Mean over the sweeps."""
        minimum, divergence, factor, over = self.seen.T
        rate = OTHERS * minimum
        if self.sgd:
            anchor = divergence ** (1 - weight) * minimum**weight if weight < 1 else minimum
            rate = np.where(np.isnan(anchor), rate, share * anchor)
        rate = rate * factor * over**-power
        return float(self.oracle.regrets(np.where(np.isnan(rate), self.usual_lr, rate)).mean())


def report(results: Path = RESULTS) -> str:
    """A table, one line for each weight and power."""
    tasks = []
    for task in select(split="dev"):
        case = load(task, results=results)
        if case is not None:
            seen = np.array([_seen(curve) for curve in case.curves])
            if np.isfinite(seen[:, 0]).any():
                sgd = task.optimizer in ("sgd", "momentum", "nesterov")
                tasks.append(_Task(case.oracle, task.usual_lr, sgd, seen))
    lines = [
        f"{len(tasks)} tasks of dev, those that every sweep is refused of left out",
        f"{'weight':>8}{'power':>8}{'left out':>10}{'capped':>8}{'all':>8}{'share':>8}",
    ]
    for weight, power in product(WEIGHTS, POWERS):
        table = np.array([[task.regret(weight, power, share) for task in tasks] for share in SHARES])
        mean = table.mean(1)
        best = int(mean.argmin())
        lines.append(
            f"{weight:8.2f}{power:8.2f}{left_out(table):10.3f}{left_out(np.minimum(table, CAP)):8.3f}"
            f"{mean[best]:8.3f}{SHARES[best]:8.2f}"
        )
    return "\n".join(lines)


def left_out(table: Floats) -> float:
    """Mean regret where each task has the choice that is best for the others; shape (choices, tasks)."""
    rest = table.sum(1, keepdims=True) - table
    return float(np.take_along_axis(table, rest.argmin(0)[None], 0).mean())


def _seen(curve: oc.Curve) -> tuple[float, float, float, float]:
    try:
        found, _, minimum = read(curve)
    except oc.Inconclusive:
        return np.nan, np.nan, np.nan, np.nan
    factor, over = (math.prod(factors(curve).values()) for factors in (for_momentum, for_passes))
    return minimum, found.divergence or np.nan, factor, over**-3
