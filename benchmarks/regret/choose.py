"""How the default rule's constants were chosen: on dev, with one task left out at a time.

With SGD the rate is a share of divergence^(1 - w) * minimum^w, or of the trough where nothing diverged; with
any other optimizer of trough^(1 - w) * minimum^w. For each w, and each power of the passes over the data, the
share is the one with the least mean regret over all tasks but one, and is tried on that one. Last comes how
far what is read is moved towards 0.1, on all tasks with SGD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np

import onecycle as oc
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import Floats, Oracle
from benchmarks.regret.rules import DEFAULT, judge, load, named
from benchmarks.regret.tasks import select
from onecycle import _default_rule
from onecycle._anchors import anchors, read
from onecycle._default_rule import _SHARE, _WIDEST, for_momentum, passes

WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
POWERS = (0.0, 1 / 3, 1 / 2)
SHARES = 10 ** np.arange(-1.0, 0.11, 0.1)
SGD = ("sgd", "momentum", "nesterov")
MOVES = (
    (1.0, 1.0),
    (1.25, 4.0),
    (1.5, 1.5),
    (1.5, 2.0),
    (1.5, 3.0),
    (1.5, 4.0),
    (1.5, 6.0),
    (1.5, 100.0),
    (2.0, 4.0),
    (3.0, 4.0),
    (100.0, 100.0),
)
CAP = 1.0  # a regret above it counts as this in the second column: one task has nearly all of the mean
CAP_MOVED = 0.5  # likewise, of what is read and moved


@dataclass(frozen=True)
class _Task:
    """What is read off each sweep of a task, NaN if not there: minimum, trough, divergence, factor, passes.

    The trough is the minimum where there is none, and no more than the rule's multiple of where the fall
    flattens.
    """

    oracle: Oracle
    usual_lr: float
    sgd: bool
    seen: Floats

    def regret(self, weight: float, power: float, share: float) -> float:
        """Mean over the sweeps."""
        minimum, trough, divergence, factor, over = self.seen.T
        end = divergence if self.sgd else trough
        rate = share * (end ** (1 - weight) * minimum**weight if weight < 1 else minimum)
        rate = np.where(np.isnan(rate), _SHARE * trough, rate) * factor * over**-power
        return float(self.oracle.regrets(np.where(np.isnan(rate), self.usual_lr, rate)).mean())


def report(results: Path = RESULTS) -> str:
    """Tables: a line for each weight and power, with SGD and with any other optimizer; and for each move."""
    tasks = []
    for task in select(split="dev"):
        case = load(task, results=results)
        if case is not None:
            seen = np.array([_seen(curve) for curve in case.curves])
            if np.isfinite(seen[:, 0]).any():
                tasks.append(_Task(case.oracle, task.usual_lr, task.optimizer in SGD, seen))
    lines = []
    for sgd, name in ((True, "divergence"), (False, "trough")):
        chosen = [task for task in tasks if task.sgd == sgd]
        if not chosen:
            continue
        lines += [
            f"{len(chosen)} tasks of dev with{'' if sgd else 'out'} SGD, those whose every sweep is refused "
            f"left out: a share of {name}^(1 - weight) * minimum^weight",
            f"{'weight':>8}{'power':>8}{'left out':>10}{'capped':>8}{'all':>8}{'share':>8}",
        ]
        for weight, power in product(WEIGHTS, POWERS):
            table = np.array([[task.regret(weight, power, share) for task in chosen] for share in SHARES])
            mean = table.mean(1)
            best = int(mean.argmin())
            lines.append(
                f"{weight:8.2f}{power:8.2f}{left_out(table):10.3f}{left_out(np.minimum(table, CAP)):8.3f}"
                f"{mean[best]:8.3f}{SHARES[best]:8.2f}"
            )
        lines.append("")
    return "\n".join([*lines, *_moves(results)])


def _moves(results: Path) -> list[str]:
    """How the rule does with SGD when what is read is moved towards one rate for all."""
    read: list[tuple[Oracle, float, Floats, Floats]] = []
    with (
        mock.patch.object(_default_rule, "_FARTHEST", 1.0),
        mock.patch.object(_default_rule, "_FARTHEST_ON_PLATEAU", 1.0),
    ):
        for task in select(split="dev"):
            case = load(task, results=results)
            if case is not None and task.optimizer in SGD:
                readings = judge(named(DEFAULT), case)
                rates = [math.nan if each.refused else each.rate for each in readings]
                flat = [anchors(curve).minimum is None for curve in case.curves]
                read.append((case.oracle, task.usual_lr, np.array(rates), np.array(flat)))
    lines = [
        f"{len(read)} tasks of dev with SGD: what is read, moved to 0.1, by no more than so many times, and "
        "where the loss never fell",
        f"{'at most':>8}{'never':>8}{'mean':>8}{'capped':>8}{'median':>8}{'<= 5 %':>8}",
    ]
    return lines + [_moved(read, *farthest) for farthest in (MOVES if read else ())]


def _moved(read: Sequence[tuple[Oracle, float, Floats, Floats]], farthest: float, flat: float) -> str:
    regrets = []
    for oracle, usual, rate, never in read:
        most = np.where(never, flat, farthest)
        moved = rate * np.clip(0.1 / rate, 1 / most, most)
        regrets.append(oracle.regrets(np.where(np.isnan(moved), usual, moved)))
    means, sweeps = np.array([regret.mean() for regret in regrets]), np.concatenate(regrets)
    return (
        f"{farthest:8.4g}{flat:8.4g}{means.mean():8.3f}{np.minimum(means, CAP_MOVED).mean():8.3f}"
        f"{np.median(sweeps):8.3f}{(sweeps <= 0.05).mean():8.0%}"
    )


def left_out(table: Floats) -> float:
    """Mean regret where each task has the choice that is best for the others; shape (choices, tasks)."""
    rest = table.sum(1, keepdims=True) - table
    return float(np.take_along_axis(table, rest.argmin(0)[None], 0).mean())


def _seen(curve: oc.Curve) -> tuple[float, ...]:
    try:
        found, _, minimum = read(curve)
    except oc.Inconclusive:
        return (np.nan,) * 5
    factor = math.prod(for_momentum(curve).values())
    low = min(found.trough or minimum, _WIDEST * (found.floor or math.inf))
    return minimum, low, found.divergence or np.nan, factor, passes(curve)
