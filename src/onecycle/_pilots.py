"""The best peak of a whole 1cycle run, read from short ones of two lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onecycle._errors import Inconclusive
from onecycle._schedules import Array

SHORTEST = 40  # updates under which a pilot tells nothing
FIRST = 25  # likewise of a first one, which shows where to look
APART = 2  # lengths nearer than this factor cannot tell how the best rate moves with the length
STEP = 10**0.5  # pilots half a decade apart cannot tell more
FIRSTS, SECONDS = 2, 3  # pilots of the first length, and of the second, which mostly do
RUNGS = 8  # of the second at most, where the best rate is far off, or a plateau wide
COSTS = SECONDS + FIRSTS / 3  # of the second length, that all of these take
LONGEST = 1 / 8  # of the training
SOLVED = 1e-3  # times the loss at the start: to end below it is no further gain
TIE = 0.03  # losses nearer than this share of what was gained are as good
PLATEAU = 0.95  # decades that tie, and so do not tell
# Chosen on the dev half of benchmarks/regret, see docs/lab/2026-11-pilots.md.
POWER = 0.5  # of the length, by which the best rate falls where longer runs end no lower
MOST = 1.5  # the power of the length by which a loss falls that counts at most: more of it is luck
DOUBT = 0.4  # the power of the length that is left, by which what pilots say may be off

Run = Callable[[Sequence[float], int], Sequence[float]]


@dataclass(frozen=True)
class Pilot:
    """A short 1cycle run: its peak, its length, and the loss that it ended with (inf: it diverged)."""

    max_lr: float
    steps: int
    loss: float


@dataclass(frozen=True)
class Plan:
    """Lengths of pilots in updates, one or two, rising, and how many of each at most."""

    steps: tuple[int, ...]
    most: tuple[int, ...]


@dataclass(frozen=True)
class Settled:
    """The peak for the whole training, and why.

    Attributes:
        value: the peak.
        tried: the rate of the longest pilot that ended lowest.
        high: the lowest rate that diverged, inf if none did.
        reason: what the pilots showed, in words.
        told: whether they told anything; else the value is the range test's, or what no pilot diverged at.
        ties: the highest rate that ended as low as any, where these are a decade apart.
    """

    value: float
    tried: float
    high: float
    reason: str
    told: bool = True
    ties: float | None = None


def plan(updates: int, total_steps: int, least: int = 3, longest: int | None = None) -> Plan | None:
    """What pilots `updates` allow for, up to `longest`; None where not even `least` of one length."""
    longest = int(LONGEST * total_steps) if longest is None else longest
    # A first one is a third of a second one, but no shorter than FIRST.
    fits = min(updates / COSTS, (updates - FIRSTS * FIRST) / SECONDS)
    second = max(min(int(fits), longest), SHORTEST)
    first = max(second // 3, FIRST)
    if fits >= second >= APART * first:
        return Plan((first, second), (FIRSTS, min(RUNGS, (updates - FIRSTS * first) // second)))
    one = max(min(updates // SECONDS, longest), SHORTEST)
    return Plan((one,), (min(RUNGS, updates // one),)) if updates >= least * one else None


def settle(
    run: Run,
    rate: float,
    how: Plan,
    total_steps: int,
    start: float,
    *,
    noise: float = 0.0,
) -> Settled:
    """Climb to the best rate of short pilots, then of longer ones, and tell the best of the whole length.

    A run of a given loss needs about the same sum of rates, however long it is. So where longer runs end no
    lower, as on small data, the best rate falls with the length; where they end much lower it does not, and
    a longer warm-up even allows for more. Runs of one length do not tell: of these it is taken to fall. The
    range test's word stands where it is as near to that as short runs can tell; else it is moved to there.

    Args:
        run: ends of 1cycle pilots with these peaks, of so many updates; inf: it diverged.
        rate: what a range test suggests, or where else to begin; it stands unless they contradict it.
        how: lengths and numbers.
        total_steps: length of the whole training.
        start: the loss before any update.
        noise: gain over that up to which they tell nothing, as on a plateau that lasts longer.

    Raises:
        Inconclusive: no pilot ended below `start`.
    """
    center, firsts = rate, {}
    if len(how.steps) > 1:
        firsts = climb(run, center, how.steps[0], how.most[0], start)
        center = _best(firsts, start, rate) if _trained(firsts, start) else rate
    steps = how.steps[-1]
    ends = climb(run, center, steps, how.most[-1], start)
    number = len(firsts) + len(ends)
    tried = min(ends, key=ends.__getitem__)
    if noise and abs(ends[tried] - start) <= noise:
        said = (
            f"none of {number} pilots of up to {steps} updates gained more than the noise of single losses, "
            f"{noise:.2g}, so they do not tell"
        )
        value = min(rate, max(r for r, loss in ends.items() if loss < math.inf))
        return Settled(value, value, math.inf, said, told=False)
    if not _trained(ends, start):
        raise Inconclusive(
            f"none of {number} pilots of up to {steps} updates ended below the loss it began with, "
            f"{start:.4g}: give a larger budget, or change the model's initialisation or normalisation"
        )
    diverged = min((r for r, loss in (firsts | ends).items() if loss == math.inf), default=math.inf)
    said = (
        f"of {number} 1cycle pilots those of {steps} updates, {steps / total_steps:.0%} of the length, "
        f"ended lowest at {tried:.2g}, with loss {ends[tried]:.4g} from {start:.4g}"
    )
    flat = _plateau(ends, start)
    if flat:
        value = _best(ends, start, rate)
        said += f", but about as low from {flat[0]:.2g} to {flat[-1]:.2g}, so they do not tell"
        return Settled(value, tried, diverged, said, ties=flat[-1])
    left = total_steps / steps
    value, power = _vertex(ends, start), 0.0
    if _trained(firsts, start):
        shorter = min(firsts.values())
        power = min(_gain(shorter, ends[tried], SOLVED * start) / math.log(steps / how.steps[0]), MOST)
        said += f", where those of {how.steps[0]} ended with {shorter:.4g}: " + (
            "longer runs gain much, and bear as high a rate"
            if power >= 1
            else "longer runs gain little, and want a lower rate"
        )
    value, doubt = value * left ** (POWER * (power - 1)), left**DOUBT
    nearest = min(max(rate, value / doubt), value * doubt, diverged / math.sqrt(STEP))
    said += f"; so the whole does best at {value:.2g}, give or take {doubt:.2g} times, and " + (
        f"{rate:.2g} is within that"
        if nearest == rate
        else f"{nearest:.2g}, the nearest to {rate:.2g}, is taken"
    )
    return Settled(nearest, tried, diverged, said)


def climb(run: Run, rate: float, steps: int, most: int, start: float) -> dict[float, float]:
    """Final losses by rate: half a decade up, and on while the upper end ties; then down, while that is best.

    Where the first rate ties, one below it is tried too.
    """
    seen: dict[float, float] = {}
    tried: list[int] = []

    def try_(*powers: int) -> None:
        rates = [rate * STEP**power for power in powers]
        seen.update(zip(rates, run(rates, steps), strict=True))
        tried.extend(powers)

    try_(*(0, 1)[:most])
    while len(seen) < most:
        ties = _ties(seen, start)
        if max(seen) in ties:
            try_(max(tried) + 1)
        elif ties in ([], [min(seen)]) or (min(tried) == 0 and min(seen) in ties):
            try_(min(tried) - 1)
        else:
            break
    return dict(sorted(seen.items()))


def better(one: float, other: float, start: float, tie: float = TIE) -> bool:
    """Whether a final loss is lower by more than a tie."""
    if not math.isfinite(one) or not math.isfinite(other):
        return one < other
    return one < other - tie * scale(one, other, start)


def scale(one: float, other: float, start: float) -> float:
    """What a difference of two losses is measured by."""
    # Of a loss that can be negative, what was gained is the measure.
    best = min(one, other)
    gained = abs(start - best)
    return min(abs(best), gained) if best > 0 else gained


def _ties(seen: dict[float, float], start: float) -> list[float]:
    """Rates that end as low as the best, rising."""
    least = min(seen.values())
    return sorted(r for r, loss in seen.items() if loss < math.inf and not better(least, loss, start))


def _plateau(seen: dict[float, float], start: float) -> list[float]:
    ties = _ties(seen, start)
    return ties if len(ties) > 2 and math.log10(ties[-1] / ties[0]) > PLATEAU else []


def _trained(seen: dict[float, float], start: float) -> bool:
    return min(seen.values(), default=math.inf) < start


def _best(seen: dict[float, float], start: float, rate: float) -> float:
    """Where pilots end lowest; `rate`, but none that was seen to be worse, where they tie over a decade."""
    flat = _plateau(seen, start)
    if not flat:
        return _vertex(seen, start)
    return min(max(rate, flat[0] if min(seen) < flat[0] else 0.0), flat[-1])


def _gain(shorter: float, longer: float, solved: float) -> float:
    """Logarithm of the ratio of two losses; their difference where one is negative, as of densities."""
    if shorter <= 0 or longer <= 0:
        return shorter - longer
    return math.log(max(shorter, solved) / max(longer, solved))


def _vertex(seen: dict[float, float], start: float) -> float:
    """Where a parabola through the best pilot and its neighbours is least, within half a step of it.

    Where the best is the last one, it is halfway to the one beside it if that ties.
    """
    rates = sorted(rate for rate, loss in seen.items() if loss < math.inf)
    at = min(range(len(rates)), key=lambda i: seen[rates[i]])
    if not 0 < at < len(rates) - 1:
        beside = rates[at + 1 if at == 0 else at - 1] if len(rates) > 1 else rates[at]
        return rates[at] if better(seen[rates[at]], seen[beside], start) else math.sqrt(rates[at] * beside)
    x: Array = np.log10(rates[at - 1 : at + 2])
    y: Array = np.array([seen[rate] for rate in rates[at - 1 : at + 2]])
    y = np.log(y) if (y > 0).all() else y
    bend, slope, _ = np.polyfit(x - x[1], y, 2)
    half = (x[2] - x[0]) / 4
    return float(rates[at] * 10 ** np.clip(-slope / (2 * bend), -half, half)) if bend > 0 else rates[at]
