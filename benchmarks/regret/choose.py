"""How the default rule's constants were chosen: on dev, with one task left out at a time.

With SGD the rate is a share of divergence^(1 - w) * minimum^w, or of the trough where nothing diverged; with
any other optimizer of trough^(1 - w) * minimum^w. For each w, and each power of the passes over the data, the
share is the one with the least mean regret over all tasks but one, and is tried on that one. Then comes how
far that is moved to what the weights' moves say; last, how far towards 0.1, on all tasks with SGD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

import onecycle as oc
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import Floats, Oracle
from benchmarks.regret.rules import CLOSE, DEFAULT, deviation, judge, load, named
from benchmarks.regret.tasks import select
from onecycle import _default_rule
from onecycle._anchors import anchors, read
from onecycle._default_rule import (
    _FARTHEST,
    _FARTHEST_BY_MOVES,
    _FARTHEST_ON_PLATEAU,
    _MOSTLY,
    _MOSTLY_ON_PLATEAU,
    _SHARE,
    _SHARE_OF_MOVES,
    _TO_MOVES,
    _WIDEST,
    for_momentum,
    for_passes,
    passes,
)
from onecycle._moves import moves_at

WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
POWERS = (0.0, 1 / 3, 1 / 2)
SHARES = 10 ** np.arange(-1.0, 0.11, 0.1)
SGD = ("sgd", "momentum", "nesterov")
TOWARDS = (
    *((at_most, _FARTHEST_ON_PLATEAU, _MOSTLY_ON_PLATEAU) for at_most in (1.0, 1.25, 1.5, 2.0, 3.0)),
    *((_FARTHEST, never, _MOSTLY_ON_PLATEAU) for never in (1.0, 1.5, 2.0, 3.0, 6.0, 100.0)),
    *((_FARTHEST, _FARTHEST_ON_PLATEAU, usual) for usual in (0.05, 0.06, 0.085, 0.1)),
    (1.0, 1.0, _MOSTLY_ON_PLATEAU),
    (100.0, 100.0, _MOSTLY_ON_PLATEAU),
)
HEEDED = (
    *((way, _SHARE_OF_MOVES) for way in (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)),
    *((_TO_MOVES, share) for share in (1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3)),
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
    """Tables: a line for each weight and power, with SGD and any other optimizer; each way; each move."""
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
    recorded = _recorded(results)
    return "\n".join([*lines, *_heeded(recorded), *_towards_usual(recorded)])


@dataclass(frozen=True)
class _Recorded:
    """What the loss of each sweep of a task says to the rule, and what its moves do; NaN: nothing."""

    oracle: Oracle
    usual_lr: float
    sgd: bool
    rate: Floats
    flat: npt.NDArray[np.bool_]  # where the loss never fell
    moves: Floats  # with the factors for passes and momentum

    def peaks(
        self,
        way: float,
        share: float,
        farthest: float = _FARTHEST,
        on_plateau: float = _FARTHEST_ON_PLATEAU,
        mostly: float = _MOSTLY_ON_PLATEAU,
    ) -> Floats:
        """What is suggested if moved that far to a share of the moves, and then towards one rate with SGD."""
        to_moves = np.clip(
            (share * self.moves / self.rate) ** way, 1 / _FARTHEST_BY_MOVES, _FARTHEST_BY_MOVES
        )
        rate = self.rate * np.where(np.isnan(self.moves), 1.0, to_moves)
        most = np.where(self.flat, on_plateau, farthest) if self.sgd else np.ones(len(rate))
        return rate * np.clip(np.where(self.flat, mostly, _MOSTLY) / rate, 1 / most, most)

    def line(self, peaks: Floats) -> tuple[Floats, bool]:
        """The regrets of what is suggested, and whether it differs so little that a user does not mind."""
        regrets = self.oracle.regrets(np.where(np.isnan(peaks), self.usual_lr, peaks))
        return regrets, deviation(peaks[~np.isnan(peaks)]) <= CLOSE


def _recorded(results: Path) -> list[_Recorded]:
    patched: dict[str, Any] = {"_FARTHEST": 1.0, "_FARTHEST_ON_PLATEAU": 1.0, "moves_at": lambda _: None}
    found = []
    with mock.patch.multiple(_default_rule, **patched):
        for task in select(split="dev"):
            case = load(task, results=results)
            if case is None:
                continue
            rates = [math.nan if each.refused else each.rate for each in judge(named(DEFAULT), case)]
            flat = np.array([anchors(curve).minimum is None for curve in case.curves])
            moves = np.where(flat | np.isnan(rates), np.nan, [_moves(curve) for curve in case.curves])
            sgd = task.optimizer in SGD
            found.append(_Recorded(case.oracle, task.usual_lr, sgd, np.array(rates), flat, moves))
    return found


def _moves(curve: oc.Curve) -> float:
    moves = moves_at(curve)
    factors = {**for_momentum(curve), **for_passes(curve)}
    return math.nan if moves is None else moves * math.prod(factors.values())


def _heeded(recorded: Sequence[_Recorded]) -> list[str]:
    """How the rule does by how far it goes to what the weights' moves say, and by the share of these."""
    lines = []
    for sgd in (True, False):
        chosen = [each for each in recorded if each.sgd == sgd]
        lines += [
            f"{len(chosen)} tasks of dev with{'' if sgd else 'out'} SGD: the way, of 1, from what the loss "
            "says to a share of where an update moves the weights by a sixth",
            f"{'way':>8}{'share':>8}{'mean':>8}{'capped':>8}{'median':>8}{'<= 5 %':>8}{'steady':>8}",
        ]
        for way, share in HEEDED if chosen else ():
            cells = _cells(chosen, [e.peaks(way, share) for e in chosen])
            lines.append(f"{way:8.2f}{share:8.3f}{cells}")
        lines.append("")
    return lines


def _towards_usual(recorded: Sequence[_Recorded]) -> list[str]:
    """How the rule does with SGD when what is read is moved towards one rate for all."""
    chosen = [each for each in recorded if each.sgd]
    lines = [
        f"{len(chosen)} tasks of dev with SGD: what is read, moved to {_MOSTLY:g}, by no more than so many "
        "times; where the loss never fell by how many, to what",
        f"{'at most':>8}{'never':>8}{'to':>8}{'mean':>8}{'capped':>8}{'median':>8}{'<= 5 %':>8}{'steady':>8}",
    ]
    for choice in TOWARDS if chosen else ():
        peaks = [each.peaks(_TO_MOVES, _SHARE_OF_MOVES, *choice) for each in chosen]
        lines.append(f"{''.join(f'{number:8.4g}' for number in choice)}{_cells(chosen, peaks)}")
    return lines


def _cells(recorded: Sequence[_Recorded], peaks: Sequence[Floats]) -> str:
    seen = [each.line(mine) for each, mine in zip(recorded, peaks, strict=True)]
    means, sweeps = np.array([regret.mean() for regret, _ in seen]), np.concatenate([r for r, _ in seen])
    return (
        f"{means.mean():8.3f}{np.minimum(means, CAP_MOVED).mean():8.3f}{np.median(sweeps):8.3f}"
        f"{(sweeps <= 0.05).mean():8.0%}{np.mean([steady for _, steady in seen]):8.0%}"
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
