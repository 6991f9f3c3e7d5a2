"""The smoothed loss of a curve, centred in the logarithm of what was swept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecycle._schedules import Array as Floats

if TYPE_CHECKING:
    from onecycle._curve import Curve


class Smoothed(NamedTuple):
    """A curve without its noise, and what was learnt on the way.

    Attributes:
        value: the grid, rising; shape (grid,).
        loss: the smoothed loss there.
        error: its standard error, from the noise and the points under the kernel.
        start: the level that the sweep began at.
        noise: standard deviation of a single loss.
        points: how many points were usable.
        lost: the lowest value at which a repeat ended in a non-finite or exploded loss, or None.
    """

    value: Floats
    loss: Floats
    error: Floats
    start: float
    noise: float
    points: int
    lost: float | None


# Grid points per kernel width, and how many widths the kernel reaches.
CELLS, _REACH = 8, 5
_BLOCK = 2**13  # points that are summed at once, so that they stay in the processor's cache

# Differences and sums of larger losses overflow; a run with such a loss is lost anyway.
LARGEST = 1e300


def finite_or_lost(loss: Floats) -> Floats:
    """The losses, infinite in place of those beyond `LARGEST`."""
    beyond = np.abs(loss) > LARGEST
    return np.where(beyond, np.copysign(np.inf, loss), loss) if beyond.any() else loss


def smooth(curve: Curve, width: float | None = None) -> Smoothed:
    """Smooth as `Curve.smooth` says, in O(points + grid)."""
    runs, lost = _runs(curve)
    n = sum(len(loss) for _, loss in runs)
    if n == 0:
        none = np.empty(0)
        return Smoothed(none, none, none, np.nan, 0.0, 0, min(lost, default=None))
    x = np.log10(np.concatenate([value for value, _ in runs]))
    despiked = [despike(loss) for _, loss in runs]
    order = slice(None) if (x[1:] >= x[:-1]).all() else np.argsort(x, kind="stable")
    x, y = x[order], np.concatenate(despiked)[order]

    early = max(int(np.searchsorted(x, x[0] + (x[-1] - x[0]) / 10, side="right")), min(3, n))
    start = float(np.median(y[:early]))
    drop = start - float(y[early:].min(initial=start))
    ceiling = start + drop if drop > 0 else np.inf
    noise = _noise([loss for _, loss in runs], despiked, ceiling)
    if drop <= 3 * noise:
        ceiling = np.inf
    else:
        held = [_hold(s, loss, start, drop, noise) for s, (_, loss) in zip(despiked, runs, strict=True)]
        y = np.concatenate(held)[order]
    lost += [float(value[-1]) for value, loss in runs if loss.size and loss[-1] > ceiling]

    unit = _unit_spaced(x, width, sum(loss.size > 0 for _, loss in runs))
    centred = np.minimum(y, ceiling) - start
    # On numbers near 1, a constant curve comes out exactly flat and a tiny one does not underflow.
    scale = float(np.abs(centred).max()) or 1.0
    middle = (x[0] + x[-1]) / 2
    grid, fit, spread = _local_lines(unit, x - middle, centred / scale)
    return Smoothed(
        10 ** (middle + grid), start + scale * fit, noise * spread, start, noise, n, min(lost, default=None)
    )


def repeats(curve: Curve) -> list[Any]:
    """What selects the points of each sweep."""
    seed = curve.seed
    if seed.size and (seed == seed[0]).all():
        return [slice(None)]
    return [seed == one for one in np.unique(seed)]


def _runs(curve: Curve) -> tuple[list[tuple[Floats, Floats]], list[float]]:
    # Values above 0 and losses of each repeat up to its first non-finite loss, and the values of these.
    runs, lost = [], []
    for mine in repeats(curve):
        value, loss = curve.value[mine], curve.loss[mine]
        bad = np.flatnonzero(~np.isfinite(finite_or_lost(loss)))
        if bad.size:
            lost.append(float(value[bad[0]]))
            value, loss = value[: bad[0]], loss[: bad[0]]
        used = value > 0
        runs.append((value, loss) if used.all() else (value[used], loss[used]))
    return runs, lost


def despike(loss: Floats) -> Floats:
    """Running median of five, of three beside the ends, and Tukey's rule at the ends; monotone stays as is.

    Source: J. W. Tukey, Exploratory Data Analysis (1977), section 7 (running medians, end values).
    """
    n = len(loss)
    if n < 3:
        return loss
    smooth = loss.copy()
    smooth[1:-1] = _median3(loss[:-2], loss[1:-1], loss[2:])
    if n >= 5:
        a, b, c, d, e = (loss[i : n - 4 + i] for i in range(5))
        low = np.maximum(np.minimum(a, b), np.minimum(c, d))
        high = np.minimum(np.maximum(a, b), np.maximum(c, d))
        smooth[2:-2] = _median3(low, high, e)
    for end, near, far in ((0, 1, 2), (-1, -2, -3)):
        smooth[end] = _median3(loss[end], smooth[near], 3 * smooth[near] - 2 * smooth[far])
    return smooth


def _median3(a: Any, b: Any, c: Any) -> Any:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _hold(smooth: Floats, loss: Floats, start: float, drop: float, noise: float) -> Floats:
    # Once the fall is lost again, what comes of still higher rates is no reading of lower ones: from where
    # two losses in a row are back at the start, by a margin over the noise, the loss stays there at least.
    if not loss.size:
        return loss
    held = smooth.copy()
    level = start - drop / 10 if drop > 5 * noise else start + 3 * noise
    # Noise may be larger before the fall than in all: what the first losses differ by is no fall.
    fallen = np.flatnonzero(smooth <= start - max(drop / 2, np.ptp(loss[: max(len(loss) // 10, 3)])))[:1]
    if fallen.size:
        back = np.flatnonzero((loss[:-1] >= level) & (loss[1:] >= level))
        back = back[back > fallen[0]]
        if back.size:
            held[back[0] :] = np.maximum(smooth[back[0] :], start)
    if loss[-1] > start + drop:
        held[-1] = loss[-1]  # no later loss can tell it from an outlier
    return held


def _noise(runs: list[Floats], despiked: list[Floats], ceiling: float) -> float:
    # Second differences do not see the trend, and their median does not see the spikes.
    bends = [
        np.abs(loss[:-2] - 2 * loss[1:-1] + loss[2:])[smooth[1:-1] <= ceiling]
        for loss, smooth in zip(runs, despiked, strict=True)
    ]
    pooled = np.concatenate(bends)
    return float(1.4826 * np.median(pooled) / np.sqrt(6)) if pooled.size else 0.0


def _unit_spaced(x: Floats, width: float | None, repeats: int) -> Floats:
    # The axis on which the kernel is 1 wide everywhere: 3 points of a repeat, at least the width in decades.
    n, span = len(x), x[-1] - x[0]
    if span == 0:
        return np.zeros(n)
    floor = min(0.06, span / 20) if width is None else width
    gaps = np.diff(x)
    if 3.1 * repeats * gaps.max() < floor:  # points are nowhere so far apart
        return np.concatenate([[0.0], np.cumsum(gaps / floor)])
    reach, first = 3 * repeats, np.arange(n - 1)
    points = np.minimum(first + reach, n - 1) - np.maximum(first + 1 - reach, 0)
    beyond = min(reach, n) - 1  # of the gaps, for which there is no point so far off
    above = np.concatenate([x[reach:], np.full(beyond, x[-1])])
    below = np.concatenate([np.full(beyond, x[0]), x[: max(n - reach, 0)]])
    spacing = repeats * (above - below) / points
    return np.concatenate([[0.0], np.cumsum(gaps / np.maximum(floor, 3 * spacing))])


def _local_lines(u: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    # Lines in x under a kernel of width 1 in u (Fan and Gijbels 1996, chapter 3) on an even grid in u; each
    # point is shared out between the two grid cells beside it. Returns the grid in x, the fit there, and
    # its standard error per unit of noise.
    gaps = max(round(u[-1] * CELLS), 1) if u[-1] > 0 else 0
    step = u[-1] / gaps if gaps else 1.0
    kernel = np.exp(-((np.arange(-_REACH * CELLS, _REACH * CELLS + 1) * step) ** 2) / 2)

    total = np.zeros((5, gaps + 2))
    for first in range(0, len(u), _BLOCK):
        block = slice(first, first + _BLOCK)
        place = u[block] / step
        cell = np.minimum(place.astype(np.int64), gaps)
        ones = np.ones(len(place))
        powers = np.stack([ones, x[block], x[block] ** 2, y[block], x[block] * y[block]])
        # Points rise, so those of a cell are neighbours.
        begins = np.concatenate([[0], np.flatnonzero(np.diff(cell)) + 1])
        upper = np.add.reduceat(powers * (place - cell), begins, axis=1)
        total[:, cell[begins]] += np.add.reduceat(powers, begins, axis=1) - upper
        total[:, cell[begins] + 1] += upper
    sums = total[:, : gaps + 1]

    def under(weight: Floats, sums: Floats) -> Floats:
        half = _REACH * CELLS
        spread: Floats = np.convolve(sums, weight)
        return spread[half : half + gaps + 1]

    s0, s1, s2, t0, t1 = (under(kernel, moment) for moment in sums)
    q0, q1, q2 = (under(kernel**2, moment) for moment in sums[:3])
    mean, centre = t0 / s0, s1 / s0
    variance = s2 / s0 - centre**2
    grid = np.interp(np.linspace(0, u[-1], gaps + 1), u, x)
    # Without two distinct values under the kernel there is no slope to see.
    lever = np.where(variance > 1e-12, (grid - centre) / np.maximum(variance, 1e-12), 0.0)
    fit = mean + lever * (t1 / s0 - centre * mean)
    # The fit weighs a point at x by kernel * (1 + lever * (x - centre)) / s0.
    flat = 1 - lever * centre
    error = np.sqrt(np.maximum(flat**2 * q0 + 2 * flat * lever * q1 + lever**2 * q2, 0)) / s0
    return grid, fit, error
