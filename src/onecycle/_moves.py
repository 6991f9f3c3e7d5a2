"""How far the weights move at a rate, in updates of a sweep."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from onecycle._curve import Curve, Ints
from onecycle._schedules import Array as Floats
from onecycle._smooth import repeats

SHARE = 1 / 6  # of their size, by which an update moves the weights at the rate that is read
_LEAST = 1e-30  # of their size: less is no move


class Part(NamedTuple):
    """What a tensor adds to how far the weights have moved.

    Attributes:
        way: squared norm of how far it has moved.
        size: that of what its elements that have moved were before.
        elements: how many it has.
        began: whether any of them was not zero.
    """

    way: float
    size: float
    elements: int
    began: bool


def share_moved(parts: Iterable[Part]) -> float:
    """How far weights have moved, as a share of their size before; NaN if that cannot be told.

    What has not moved counts nothing, such as the rows of words that never came, nor does a tensor that
    began at zero, of whose size no share can be told.
    """
    parts = list(parts)
    told = [part for part in parts if part.began]
    return ratio(
        sum(part.way for part in told),
        sum(part.size for part in told),
        sum(part.elements for part in told),
        sum(part.elements for part in parts),
    )


def ratio(way: float, size: float, told: float, elements: float) -> float:
    """The share, from the squared norms of the tensors that did not begin at zero.

    NaN unless these have half of the elements, `told` of all of them; 0 where nothing moved.
    """
    if not told or 2 * told < elements:
        return math.nan
    if size > 0:
        return math.sqrt(way / size)
    return 0.0 if way == 0 else math.nan


def moves_at(curve: Curve) -> float | None:
    """The rate at which an update moves the weights by a sixth of their size; None if that was not measured.

    How far they lay from where the sweep began is shared out among its updates by their rates. Of a sweep
    that ended before it got there, the rate is its last one scaled up; of several sweeps, it is the median.
    """
    if curve.moved is None or curve.hyper != "lr":
        return None
    found = [_log_rate(curve.value[mine], curve.moved[mine], curve.step[mine]) for mine in repeats(curve)]
    rates = [rate for rate in found if rate is not None]
    return math.exp(statistics.median(rates)) if rates else None


def _log_rate(value: Floats, moved: Floats, step: Ints) -> float | None:
    further = np.diff(step)  # of a log that is thinned out a row stands for several updates
    if (further <= 0).any():
        return None
    updates = np.concatenate([further[:1] if further.size else np.ones(len(step)), further])
    before = np.concatenate([value[:1], value[:-1]])
    rates = updates * before + (updates + 1) / 2 * (value - before)
    with np.errstate(invalid="ignore", divide="ignore"):
        update = moved * value / np.cumsum(rates)
    known = np.flatnonzero(np.isfinite(update) & (update > _LEAST))
    if not known.size:
        return None
    x, y = np.log(value[known]), np.log(update[known] / SHARE)
    beyond = np.flatnonzero(y >= 0)
    if not beyond.size:
        return float(x[-1] - y[-1])
    at = int(beyond[0])
    if at == 0:
        return None
    way = y[at - 1] / (y[at - 1] - y[at])
    return float(x[at - 1] + way * (x[at] - x[at - 1]))
