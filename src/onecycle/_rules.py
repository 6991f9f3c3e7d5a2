"""The rules of other tools, each with its own smoothing, stop and skips, as their sources state them.

Every rule takes the values and raw losses of one sweep, both of shape (n,), in the order of recording,
and gives one value. A curve longer than the tool would have recorded is cut where the tool stops.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import accumulate

import numpy as np

from onecycle._errors import Inconclusive
from onecycle._schedules import Array as Floats

Rule = Callable[[Floats, Floats], float]


# fastai 2.8: fastai/callback/schedule.py, fastai/learner.py -------------------------------------------


def _fastai(value: Floats, loss: Floats, need: int, name: str) -> tuple[Floats, Floats]:
    # Debiased running average, beta 0.98; stop beyond 4 times the best; the first tenth and the last five
    # are skipped, and all from the first NaN on.
    n = len(loss)
    smooth = _average(loss, 0.98) / (1 - 0.98 ** np.arange(1.0, n + 1))
    stop = _stop(smooth, 4)
    value, smooth = value[:stop][n // 10 : -5], smooth[:stop][n // 10 : -5]
    nan = np.flatnonzero(np.isnan(smooth))
    if nan.size:
        value, smooth = value[: nan[0]], smooth[: nan[0]]
    _check(value, need, name, "fastai skips the first tenth and the last five")
    return value, smooth


def minimum(value: Floats, loss: Floats) -> float:
    """A tenth of the value of least loss."""
    value, loss = _fastai(value, loss, 1, "minimum")
    return float(value[loss.argmin()] / 10)


def steep(value: Floats, loss: Floats) -> float:
    """Where the loss falls fastest per logarithm of the value."""
    value, loss = _fastai(value, loss, 2, "steep")
    return float(value[(np.diff(loss) / np.diff(np.log(value))).argmin()])


def valley(value: Floats, loss: Floats) -> float:
    """Half-way down the longest valley, fastai's default."""
    value, loss = _fastai(value, loss, 1, "valley")
    return float(value[valley_index(loss)])


def valley_index(loss: Floats) -> int:
    """Index of fastai's valley rule in O(n log n).

    The longest strictly falling subsequence is taken for a contiguous stretch that ends where the
    subsequence ends, and entered by int(k) + int(k / 2) with k a third of its length. The index can be
    -1, the last point, as in the original.
    """
    tails: list[float] = []
    longest, end = 1, 0
    for i, negative in enumerate((-loss).tolist()):
        place = bisect_left(tails, negative)
        tails[place : place + 1] = [negative]
        if place + 1 > longest:
            longest, end = place + 1, i
    start = end - longest if end else 0
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


def slide(value: Floats, loss: Floats) -> float:
    """From the right, the first interval of 15 points whose ends differ in slope by less than 0.005."""
    value, loss = _fastai(value, loss, 16, "slide")
    with np.errstate(invalid="ignore"):
        slope = np.gradient(loss)
        right, left = -1, -16
        answer = value[left]
        while left >= -len(loss) and abs(slope[right] - slope[left]) > 0.005:
            answer = value[left]
            right, left = right - 1, left - 1
    return float(answer)


# torch-lr-finder 0.2.2 and ignite 0.5.5 ---------------------------------------------------------------


def _undebiased(value: Floats, loss: Floats) -> tuple[Floats, Floats]:
    # Running average of weight 0.05 from the first loss on; stop beyond 5 times the best.
    smooth = np.array(list(accumulate(loss.tolist(), lambda mean, new: 0.05 * new + 0.95 * mean)))
    stop = _stop(smooth, 5)
    return value[:stop], smooth[:stop]


def torch_lr_finder(value: Floats, loss: Floats) -> float:
    """Where the loss falls fastest per step."""
    value, loss = _undebiased(value, loss)
    value, loss = value[10:-5], loss[10:-5]
    _check(value, 2, "torch-lr-finder", "it skips the first ten and the last five")
    with np.errstate(invalid="ignore"):
        return float(value[np.gradient(loss).argmin()])


def ignite(value: Floats, loss: Floats) -> float:
    """Where the loss falls fastest per step, before its minimum."""
    value, loss = _undebiased(value, loss)
    loss = loss[: loss.argmin() + 1] if loss.size else loss
    _check(loss, 3, "ignite", "it reads up to the least loss only")
    with np.errstate(invalid="ignore"):
        return float(value[(0.5 * (loss[2:] - loss[:-2])).argmin() + 1])


# Lightning: pytorch_lightning/tuner/lr_finder.py ------------------------------------------------------


def _lightning(value: Floats, loss: Floats) -> tuple[Floats, Floats]:
    # The running average is debiased as if it were one step older; stop beyond 4 times the best so far,
    # judged from the second point on; the first ten, the last and all non-finite points are skipped.
    smooth = _average(loss, 0.98) / (1 - 0.98 ** np.arange(2.0, len(loss) + 2))
    stop = max(_stop(smooth[1:], 4, np.minimum.accumulate(smooth)[:-1]) + 1, 1)
    value, smooth = value[:stop][10:-1], smooth[:stop][10:-1]
    finite = np.isfinite(smooth)
    value, smooth = value[finite], smooth[finite]
    _check(value, 2, "lightning", "it skips the first ten and the last")
    return value, smooth


def lightning(value: Floats, loss: Floats) -> float:
    """Where the loss falls fastest per unit of the value itself (since 2.5.3)."""
    value, loss = _lightning(value, loss)
    return float(value[np.gradient(loss, value).argmin()])


def lightning_252(value: Floats, loss: Floats) -> float:
    """Where the loss falls fastest per step (up to 2.5.2)."""
    value, loss = _lightning(value, loss)
    return float(value[np.gradient(loss).argmin()])


def _average(loss: Floats, beta: float) -> Floats:
    means = accumulate(loss.tolist(), lambda mean, new: beta * mean + (1 - beta) * new, initial=0.0)
    return np.array(list(means)[1:])


def _stop(smooth: Floats, factor: float, best: Floats | None = None) -> int:
    # How many points are recorded before the loss exceeds so many times the best, that point included.
    best = np.minimum.accumulate(smooth) if best is None else best
    over = np.flatnonzero(smooth > factor * best)
    return int(over[0]) + 1 if over.size else len(smooth)


def _check(points: Floats, need: int, name: str, why: str) -> None:
    if len(points) < need:
        raise Inconclusive(
            f"rule {name!r} needs {need} point{'s' * (need > 1)} and has {len(points)} ({why}): "
            "take more steps, or another rule"
        )


_ALL: Mapping[str, tuple[Rule, str]] = {
    "minimum": (minimum, "fastai: a tenth of the rate of least smoothed loss"),
    "steep": (steep, "fastai: where the smoothed loss falls fastest in log rate"),
    "valley": (valley, "fastai: half-way down the longest falling subsequence"),
    "slide": (slide, "fastai: where an interval sliding from the right finds even slopes"),
    "torch-lr-finder": (torch_lr_finder, "torch-lr-finder: where the smoothed loss falls fastest per step"),
    "ignite": (ignite, "ignite: where the smoothed loss falls fastest per step before its minimum"),
    "lightning": (lightning, "Lightning since 2.5.3: where the smoothed loss falls fastest in linear rate"),
    "lightning-2.5.2": (
        lightning_252,
        "Lightning up to 2.5.2: where the smoothed loss falls fastest per step",
    ),
}
ORIGIN: Mapping[str, str] = {name: origin for name, (_, origin) in _ALL.items()}


def _on_a_sweep(rule: Rule) -> Rule:
    def checked(value: Floats, loss: Floats) -> float:
        if (np.diff(value) <= 0).any():
            raise Inconclusive("the values do not rise from step to step, so this is no range test")
        return rule(value, loss)

    return checked


RULES: Mapping[str, Rule] = {name: _on_a_sweep(rule) for name, (rule, _) in _ALL.items()}
