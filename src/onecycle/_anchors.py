"""What can be seen on a curve: its anchors, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._schedules import Array as Floats
from onecycle._smooth import CELLS, LARGEST, Smoothed, finite_or_lost, repeats, smooth


@dataclass(frozen=True)
class Anchors:
    """What can be seen on a curve; None where it cannot.

    Scaling or shifting the loss does not move them; scaling the values scales them.

    Attributes:
        start: the loss that the sweep began at: its median over the first tenth, in decades.
        best: the least smoothed loss.
        noise: the standard deviation of a single loss about the curve.
        onset: the value where a tenth of the drop from start to best is made for good; None if the fall was
            under way when the sweep began.
        steepest: where the loss falls fastest per decade, after that tenth and up to the minimum.
        floor: where nine tenths of the drop are first made after the onset, and the fall flattens.
        minimum: where the smoothed loss is least; None if the drop is no clear one.
        trough: the middle, in decades, of the stretch about the minimum where less than a fifth of the drop
            lacks; None where the loss does not rise out of it.
        divergence: the first value past the minimum where half of the drop is lost again, or where the
            loss became infinite, NaN, or ended in an explosion.
        falling: the loss still falls at the highest value, so that the minimum is no turn.
    """

    start: float
    best: float
    noise: float
    onset: float | None = None
    steepest: float | None = None
    floor: float | None = None
    minimum: float | None = None
    trough: float | None = None
    divergence: float | None = None
    falling: bool = False


# A drop counts if it is this many standard errors of the smoothed loss; on 100 points of pure noise, one
# curve in a hundred has such a drop.
_CLEAR = 5.0
# And if it is more than the rounding of the losses, as a share of them.
_ROUNDING = 1e-13
# One that is lost again this many times below where the loss rises above its beginning was noise after all.
_FAR = 1e3


def anchors(curve: Curve) -> Anchors:
    """Find start, onset, steepest fall, minimum and divergence of a curve."""
    return anchors_of(smooth(curve))


def anchors_of(smoothed: Smoothed) -> Anchors:
    """`anchors` of what was smoothed already."""
    value, loss, error, start, noise, _, lost = smoothed
    if not value.size:
        return Anchors(start, start, noise)
    least = int(loss.argmin())
    best = float(loss[least])
    drop = start - best
    if least == 0 or drop <= max(_CLEAR * error[least], _ROUNDING * max(abs(start), abs(best))):
        return Anchors(start, best, noise)

    x = np.log10(value)
    above = np.flatnonzero(loss[:least] > start - drop / 10)
    under_way = not above.size or loss[0] > start + drop / 10
    onset = None if under_way else _crossing(x, loss, int(above[-1]) + 1, start - drop / 10)
    first = int(above[-1]) + 1 if above.size else 0
    steepest = float(value[first + int(np.gradient(loss, x)[first : least + 1].argmin())])

    low = np.flatnonzero(loss[first : least + 1] <= best + drop / 10)
    floor = _crossing(x, loss, max(first + int(low[0]), 1), best + drop / 10)
    minimum = float(value[least])

    def risen(level: float) -> float | None:
        above = np.flatnonzero(loss[least:] >= level)
        ends = [_crossing(x, loss, least + int(above[0]), level)] if above.size else []
        if lost is not None and lost >= minimum * (1 - 1e-9):
            ends.append(max(lost, minimum))
        return min(ends, default=None)

    divergence, upper = risen(best + drop / 2), risen(best + drop / 5)
    if divergence is not None and (rises_from(smoothed) or 0.0) > _FAR * divergence:
        return Anchors(start, best, noise)
    down = np.flatnonzero(loss[:least] > best + drop / 5)
    lower = _crossing(x, loss, int(down[-1]) + 1, best + drop / 5) if down.size else float(value[0])
    trough = None if upper is None else float(np.sqrt(lower * upper))
    # Within a kernel's width of the end, a minimum is only where the sweep stopped.
    falling = divergence is None and least >= len(value) - 1 - CELLS
    return Anchors(start, best, noise, onset, steepest, floor, minimum, trough, divergence, falling)


def edge(curve: Curve) -> float | None:
    """The value from which the loss is clearly above its beginning for good, or lost; None if it never is.

    Where it still falls at the highest value, that one: beyond it nothing is known.
    """
    smoothed = smooth(curve)
    return float(curve.value.max()) if anchors_of(smoothed).falling else rises_from(smoothed)


def rises_from(smoothed: Smoothed) -> float | None:
    """`edge`, whether the loss falls at the highest value or not."""
    value, loss, error, start, _, _, lost = smoothed
    if not value.size:
        return None
    clear = np.maximum(_CLEAR * error, _ROUNDING * max(abs(start), float(np.abs(loss).max())))
    below = np.flatnonzero(loss - start <= clear)
    after = int(below[-1]) + 1 if below.size else 0
    ends = [float(value[after])] if after < len(value) else []
    return min([*ends, *([] if lost is None else [lost])], default=None)


def _crossing(x: Floats, loss: Floats, after: int, level: float) -> float:
    # The value at which the loss, on its way from one grid point to the next, passes the level.
    before = after - 1
    share = (level - loss[before]) / (loss[after] - loss[before])
    return float(10 ** (x[before] + share * (x[after] - x[before])))


def told(found: Anchors) -> str:
    """What a curve that has a turn shows, in words."""
    end = "never diverges" if found.divergence is None else f"has diverged at {found.divergence:.3g}"
    return (
        f"the loss falls from {found.start:.3g} to {found.best:.3g}, fastest at {found.steepest:.3g}, "
        f"is least at {found.minimum:.3g} and {end}"
    )


# Refusals -------------------------------------------------------------------------------------------


def read(curve: Curve) -> tuple[Anchors, float, float]:
    """The anchors of a curve that has a fall and a turn, with its steepest fall and its minimum.

    Raises:
        Inconclusive: the curve is empty, short, no sweep, flat, rising, noisy, or still falling at its end.
    """
    smoothed = check(curve)
    found = anchors_of(smoothed)
    return found, *turn(curve, smoothed, found)


def turn(curve: Curve, smoothed: Smoothed, found: Anchors) -> tuple[float, float]:
    """The steepest fall and the minimum, as `read` has them, of what was found already."""
    if found.minimum is None or found.steepest is None:
        raise Inconclusive(_why_no_minimum(curve, smoothed, found))
    if found.falling:
        end = float(curve.value.max())
        such = f", such as {end * 10:.3g}" if curve.hyper == "lr" else ""
        raise Inconclusive(
            f"the loss still falls at the highest {_name(curve)}, {end:.3g}: sweep to a higher end{such}"
        )
    return found.steepest, found.minimum


def _name(curve: Curve) -> str:
    return {"lr": "rate"}.get(curve.hyper, curve.hyper)


def check(curve: Curve) -> Smoothed:
    """The smoothed curve, if it is one of a sweep that can be read."""
    smoothed, hyper = smooth(curve), _name(curve)
    points = smoothed.points
    if not np.isfinite(finite_or_lost(curve.loss)).any():
        large = f" up to {LARGEST:g}" if np.isfinite(curve.loss).any() else ""
        raise Inconclusive(
            f"none of the {len(curve)} losses is a finite number{large}: "
            "start the sweep lower, or look at the data"
            if len(curve)
            else "the curve holds no point: run a range test first"
        )
    if points < 10:
        raise Inconclusive(
            f"only {points} usable points ({hyper} above 0, before the first non-finite loss), "
            f"10 are needed: take more steps or start lower"
        )
    _check_sweep(curve, hyper)
    return smoothed


def _check_sweep(curve: Curve, hyper: str) -> None:
    for mine in repeats(curve):
        value = curve.value[mine]
        back = np.flatnonzero(np.diff(value) < -1e-6 * value[:-1])
        if back.size:
            at = int(curve.step[mine][back[0] + 1])
            raise Inconclusive(
                f"the {hyper} goes down at step {at}, so this is no range test: sweep it upwards only"
            )
    if np.ptp(curve.value[curve.value > 0]) == 0:
        raise Inconclusive(f"the {hyper} is {curve.value.max():.3g} at every point: sweep it over a range")


def _why_no_minimum(curve: Curve, smoothed: Smoothed, found: Anchors) -> str:
    loss, error, lost, hyper = smoothed.loss, smoothed.error, smoothed.lost, _name(curve)
    start, drop = found.start, found.start - found.best
    size = max(abs(start), abs(found.best))
    top = int(loss.argmax())
    if loss[top] - start > max(_CLEAR * error[top], drop, _ROUNDING * size):
        return f"the loss only rises, from {start:.3g} to {loss[top]:.3g}: start the sweep lower"
    if lost is not None:
        there = curve.loss[curve.value == lost]
        if (np.abs(there) <= LARGEST).all():
            return f"the loss explodes at {hyper} {lost:.3g} and never clearly fell: start the sweep lower"
        state = f"beyond {LARGEST:g}" if np.isfinite(there).all() else "not finite"
        return f"the loss is {state} from {hyper} {lost:.3g} on and never fell: start the sweep lower"
    if max(drop, loss[top] - start, found.noise) <= _ROUNDING * size:
        return (
            f"the loss is flat at {start:.3g} from {hyper} {lowest(curve):.3g} to {curve.value.max():.3g}: "
            f"sweep to a higher end, or check that the updates reach the weights"
        )
    return (
        f"the loss is too noisy: its fall of {max(drop, 0):.2g} cannot be told from the noise of "
        f"{found.noise:.2g} per step: take more steps, repeats or larger batches, or a higher end"
    )


def lowest(curve: Curve) -> float:
    """Of the values above 0."""
    return float(curve.value[curve.value > 0].min())
