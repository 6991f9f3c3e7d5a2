"""How far the weights move at a rate, in updates of a sweep."""

from __future__ import annotations

import math

import numpy as np

from onecycle._curve import Curve

SHARE = 1 / 6  # of their size, by which an update moves the weights at the rate that is read


def moves_at(curve: Curve) -> float | None:
    """The rate at which an update moves the weights by a sixth of their size; None if that was not measured.

    How far they lay from where the sweep began is shared out among its updates by their rates. Of a sweep
    that ended before it got there, the rate is its last one scaled up.

    Args:
        curve: one sweep of the learning rate.
    """
    if curve.moved is None or curve.hyper != "lr":
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        update = curve.moved * curve.value / np.cumsum(curve.value)
    known = np.flatnonzero(np.isfinite(update) & (update > 0))
    if not known.size:
        return None
    x, y = np.log(curve.value[known]), np.log(update[known] / SHARE)
    beyond = np.flatnonzero(y >= 0)
    if not beyond.size:
        return math.exp(x[-1] - y[-1])
    at = int(beyond[0])
    if at == 0:
        return None
    way = y[at - 1] / (y[at - 1] - y[at])
    return math.exp(x[at - 1] + way * (x[at] - x[at - 1]))
