"""From curve to suggestion: anchors on the smoothed loss, and the rules that read them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from reprlib import repr as brief
from typing import Any, Literal, get_args

import numpy as np

from onecycle import _rules
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._files import read_document, write_document
from onecycle._schedules import Array as Floats
from onecycle._smooth import CELLS, LARGEST, Smoothed, finite_or_lost, repeats, smooth

_FORMAT, _VERSION = "onecycle.suggestion", 1
_NUMBER, _TEXT = (int, float), str

Use = Literal["one_cycle", "cyclical", "constant"]
USES: tuple[Use, ...] = get_args(Use)


@dataclass(frozen=True)
class Suggestion:
    """A value to train with, its interval, and why.

    Args:
        value: the suggested value, in the units of the swept hyper-parameter.
        low: the low end of the interval.
        high: the high end of the interval.
        rule: the name of the rule that read it.
        reason: one plain sentence.
        use: what the value is for: "one_cycle" is the peak of a 1cycle policy, "cyclical" the maximum of
            a cyclical one, "constant" a rate that holds throughout.
        hyper: the hyper-parameter: "lr", "momentum", ...
        base_lr: the least rate of a cyclical policy; None for any other use.

    Raises:
        ValueError: not 0 < low <= value <= high < infinity, or not 0 < base_lr < value.
    """

    value: float
    low: float
    high: float
    rule: str
    reason: str
    use: str = "one_cycle"
    hyper: str = "lr"
    base_lr: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", *(() if self.base_lr is None else ("base_lr",))):
            given: object = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, Real):
                raise ValueError(f"{name} must be a number > 0, got {brief(given)}")
        if not 0 < self.low <= self.value <= self.high <= sys.float_info.max:
            raise ValueError(
                f"a suggestion needs 0 < low <= value <= high < infinity, "
                f"got low={self.low!r:.40}, value={self.value!r:.40}, high={self.high!r:.40}"
            )
        if self.base_lr is not None and not 0 < self.base_lr < self.value:
            raise ValueError(
                f"a suggestion needs 0 < base_lr < value, got base_lr={self.base_lr!r}, value={self.value!r}"
            )

    @property
    def max_lr(self) -> float:
        """The suggested learning rate.

        Raises:
            AttributeError: the suggestion is for another hyper-parameter.
        """
        if self.hyper != "lr":
            raise AttributeError(f"this suggestion is for {self.hyper}, not lr; it is in suggestion.value")
        return self.value

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        name = self.hyper if self.hyper != "lr" or self.use == "constant" else "max_lr"
        if self.base_lr is not None:
            name = f"base_lr {self.base_lr:.3g}, {name}"
        return f"{name} {self.value:.3g} ({self.low:.3g} to {self.high:.3g}), rule {self.rule}: {self.reason}"

    def _repr_html_(self) -> str:
        from onecycle._charts import suggestion_html

        return suggestion_html(self)

    def to_json(self) -> str:
        """Strict JSON."""
        return write_document(_FORMAT, _VERSION, asdict(self))

    @classmethod
    def from_json(cls, text: str, *, source: str = "the JSON text") -> Suggestion:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else, or damaged; in one line that starts with `source`.
        """
        types: dict[str, Any] = {
            **dict.fromkeys(("value", "low", "high"), _NUMBER),
            **dict.fromkeys(("rule", "reason", "use", "hyper"), _TEXT),
            "base_lr": (*_NUMBER, type(None)),  # older files lack it
        }
        fields = read_document(text, _FORMAT, _VERSION, types, source)
        try:
            return cls(**fields)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None


# Anchors --------------------------------------------------------------------------------------------


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
    divergence: float | None = None
    falling: bool = False


# A drop counts if it is this many standard errors of the smoothed loss; on 100 points of pure noise, one
# curve in a hundred has such a drop.
_CLEAR = 5.0
# And if it is more than the rounding of the losses, as a share of them.
_ROUNDING = 1e-13


def anchors(curve: Curve) -> Anchors:
    """Find start, onset, steepest fall, minimum and divergence of a curve."""
    return _anchors(smooth(curve))


def _anchors(smoothed: Smoothed) -> Anchors:
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
    risen = np.flatnonzero(loss[least:] >= best + drop / 2)
    ends = [_crossing(x, loss, least + int(risen[0]), best + drop / 2)] if risen.size else []
    if lost is not None and lost >= minimum * (1 - 1e-9):
        ends.append(max(lost, minimum))
    # Within a kernel's width of the end, a minimum is only where the sweep stopped.
    falling = not ends and least >= len(value) - 1 - CELLS
    return Anchors(start, best, noise, onset, steepest, floor, minimum, min(ends, default=None), falling)


def edge(curve: Curve) -> float | None:
    """The value from which the loss is clearly above its beginning for good, or lost; None if it never is.

    Where it still falls at the highest value, that one: beyond it nothing is known.
    """
    smoothed = smooth(curve)
    return float(curve.value.max()) if _anchors(smoothed).falling else _rises(smoothed)


def _rises(smoothed: Smoothed) -> float | None:
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


# Rules ----------------------------------------------------------------------------------------------


def suggest(curve: Curve, rule: str | None = None, use: Use = "one_cycle") -> Suggestion:
    """Read a value off a curve by the rule of that name; None means `default_rule`.

    Raises:
        Inconclusive: the curve does not tell.
        ValueError: no rule of that name, no such use, or one that the rule does not know.
    """
    name = default_rule(curve) if rule is None else rule
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {brief(name)}")
    if use not in USES:
        raise ValueError(f"use must be one of {', '.join(USES)}, got {use!r}")
    if use == "one_cycle":
        return RULES[name](curve, name)
    if curve.hyper != "lr":
        raise ValueError(f"use is of learning rates, got {use!r} for a sweep of {curve.hyper}: leave it out")
    if name != "onecycle":
        raise ValueError(f"rule {name!r} does not tell uses apart, got use={use!r}: leave out one of them")
    return (_cyclical if use == "cyclical" else _constant)(curve, name)


def default_rule(curve: Curve) -> str:
    """The rule that reads a curve unless told otherwise.

    A rate is a share of the one with the least loss, or of divergence. Momentum and the like are bounded: a
    share of them means nothing, so the least loss itself is taken, as Smith reads them (arXiv 1803.09820,
    section 4.3).
    """
    return "onecycle" if curve.hyper == "lr" else "argmin"


def read(curve: Curve) -> tuple[Anchors, float, float]:
    """The anchors of a curve that has a fall and a turn, with its steepest fall and its minimum.

    Raises:
        Inconclusive: the curve is empty, short, no sweep, flat, rising, noisy, or still falling at its end.
    """
    smoothed = _check(curve)
    return _turn(curve, smoothed, _anchors(smoothed))


def _turn(curve: Curve, smoothed: Smoothed, found: Anchors) -> tuple[Anchors, float, float]:
    hyper = _name(curve)
    if found.minimum is None or found.steepest is None:
        raise Inconclusive(_why_no_minimum(curve, found, smoothed.loss, smoothed.error, smoothed.lost, hyper))
    if found.falling:
        end = float(curve.value.max())
        such = f", such as {end * 10:.3g}" if curve.hyper == "lr" else ""
        raise Inconclusive(
            f"the loss still falls at the highest {hyper}, {end:.3g}: sweep to a higher end{such}"
        )
    return found, found.steepest, found.minimum


def _name(curve: Curve) -> str:
    return {"lr": "rate"}.get(curve.hyper, curve.hyper)


def _check(curve: Curve) -> Smoothed:
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


def _why_no_minimum(
    curve: Curve, found: Anchors, loss: Floats, error: Floats, lost: float | None, hyper: str
) -> str:
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
            f"the loss is flat at {start:.3g} from {hyper} {_least(curve):.3g} to {curve.value.max():.3g}: "
            f"sweep to a higher end, or check that the updates reach the weights"
        )
    return (
        f"the loss is too noisy: its fall of {max(drop, 0):.2g} cannot be told from the noise of "
        f"{found.noise:.2g} per step: take more steps, repeats or larger batches, or a higher end"
    )


def _least(curve: Curve) -> float:
    return float(curve.value[curve.value > 0].min())


# The default rule -----------------------------------------------------------------------------------

# Chosen on the dev half of benchmarks/regret, see docs/lab/2026-11-default-rule.md: sweeps of 100 steps,
# each task's best rate for 1cycle against what the curve shows.
_SHARE = 0.4  # of the rate with the least loss
_SHARE_OF_EDGE = 0.14  # with SGD: of the rate of divergence
# With SGD: counts as it where the loss falls up to there. Nobody trains with more, and a net whose units have
# died there does not diverge.
_HIGHEST = 10.0
# The interval reaches this many times down and up; it held the best rate of nine sweeps in ten.
_REACH: Mapping[Use, float] = {"one_cycle": 5.0, "cyclical": 15.0, "constant": 10.0}
_CONSTANT = 0.5  # of that, for a rate that holds throughout, with the momentum of the test
_BASE = 4  # Smith (arXiv 1506.01186, section 3.3): a base a third or a fourth of the maximum
_PEAK_MOMENTUM = 0.85  # of 1cycle, where its rate is highest
# Their steps grow with momentum; those of the Adam family do not.
_HEAVY_BALL = ("SGD", "RMSprop")


@dataclass(frozen=True)
class _Reading:
    """What a curve shows, and the rate of which 1cycle does best at a share."""

    found: Anchors
    words: str
    rate: float
    share: float
    what: str
    end: float | None  # from which on it diverges
    passes: Mapping[str, float]  # the factor for these, by its words
    reach: float = 1.0  # times which the interval is wider


def _one_cycle(curve: Curve, rule: str) -> Suggestion:
    # A share of what was seen, less where the test was run otherwise than 1cycle trains.
    seen = _look(curve)
    factors = {
        f"1cycle does best at about {seen.share:g} of {seen.what}": seen.share,
        **for_momentum(curve),
        **seen.passes,
    }
    value = seen.rate * math.prod(factors.values())
    low, high = _interval(seen, value, "one_cycle")
    reason = f"{seen.words}; {', times '.join(factors)}"
    return Suggestion(value, low, high, rule, reason, hyper=curve.hyper)


def _look(curve: Curve) -> _Reading:
    # SGD's best rate lies near the edge, that of optimizers which divide by the gradient's size need not.
    smoothed, sgd = _check(curve), _facts(curve).get("optimizer") == "SGD"
    found = _anchors(smoothed)
    if sgd and found.minimum is None:
        rises = _rises(smoothed)
        if rises is not None and rises * _SHARE_OF_EDGE >= 10 * _least(curve):
            return _on_plateau(found, rises)
    if sgd and found.falling and curve.value.max() >= _HIGHEST * (1 - 1e-9):
        return _on_slope(curve, found)
    _, _, minimum = _turn(curve, smoothed, found)
    rate, share, what = minimum, _SHARE, "the rate with the least loss"
    if sgd and found.divergence is not None:
        rate, share, what = found.divergence, _SHARE_OF_EDGE, "that with SGD"
    return _Reading(found, _seen(found), rate, share, what, found.divergence, for_passes(curve))


def _on_plateau(found: Anchors, rises: float) -> _Reading:
    words = f"the loss never clearly falls from {found.start:.3g}, and rises from {rises:.3g} on"
    # Of data that taught nothing, it does not matter how often they were seen.
    return _Reading(found, words, rises, _SHARE_OF_EDGE, "that with SGD", rises, passes={}, reach=2.0)


def _on_slope(curve: Curve, found: Anchors) -> _Reading:
    end = float(curve.value.max())
    words = (
        f"the loss falls from {found.start:.3g} to {found.best:.3g} and still does at {end:.3g}, "
        f"but hardly any net trains beyond {_HIGHEST:g}"
    )
    passes = for_passes(curve)
    return _Reading(found, words, _HIGHEST, _SHARE_OF_EDGE, "that with SGD", end, passes, reach=2.0)


def for_momentum(curve: Curve) -> dict[str, float]:
    """The factor for a test without the momentum that 1cycle has at its peak, by its words; or nothing."""
    momentum = _fact(curve, "momentum")
    if momentum is None or _facts(curve).get("optimizer") not in _HEAVY_BALL:
        return {}
    if not 0 <= momentum < _PEAK_MOMENTUM:
        return {}
    # Between noise, which allows 1 - m times the rate, and curvature, which allows 1 + m times.
    factor = math.sqrt((1 - _PEAK_MOMENTUM**2) / (1 - momentum**2))
    return {f"{factor:.2g} for a momentum that was {momentum:g} and becomes {_PEAK_MOMENTUM:g}": factor}


def for_passes(curve: Curve) -> dict[str, float]:
    """The factor for a test that went over the data more than once, by its words; or nothing."""
    # What was seen before is no measure of what is new: small data want smaller rates.
    per_epoch = _fact(curve, "steps_per_epoch")
    passes = int(curve.step.max()) / per_epoch if per_epoch else 0.0
    if passes <= 1:
        return {}
    factor = passes ** (-1 / 3)
    return {f"{factor:.2g} for going over the data {passes:.2g} times": factor}


def _interval(seen: _Reading, value: float, use: Use) -> tuple[float, float]:
    reach = seen.reach * _REACH[use]
    return value / reach, min(value * reach, max(seen.end or math.inf, value))


def _constant(curve: Curve, rule: str) -> Suggestion:
    # As for 1cycle, but momentum stays what it was in the test.
    seen = _look(curve)
    factors = {
        f"1cycle does best at about {seen.share:g} of {seen.what}": seen.share,
        f"{_CONSTANT:g} for a rate that does not fall": _CONSTANT,
        **seen.passes,
    }
    value = seen.rate * math.prod(factors.values())
    low, high = _interval(seen, value, "constant")
    reason = f"{seen.words}; {', times '.join(factors)}"
    return Suggestion(value, low, high, rule, reason, "constant")


def _cyclical(curve: Curve, rule: str) -> Suggestion:
    """Base and maximum as Smith reads them: where the loss begins to fall, where the fall flattens.

    Where it flattens only shortly before it diverges, a long training does not bear that rate: the maximum
    is the peak for 1cycle there, with the momentum of the test.

    Source: L. N. Smith, arXiv 1506.01186, section 3.3.
    """
    seen = _look(curve)
    found = seen.found
    peak = seen.rate * seen.share * math.prod(seen.passes.values())
    if found.floor is not None and found.floor <= peak:
        value, top = found.floor, "where it flattens"
    else:
        share = ", times ".join([f"{seen.share:g} of {seen.what}", *seen.passes])
        value, top = peak, f"{share}, before it flattens"
    if found.onset is not None and found.onset < value:
        base, foot = found.onset, "where it begins to fall"
    else:
        base, foot = value / _BASE, f"a {_BASE:g}th of that, as it does not begin to fall below"
    low, high = _interval(seen, value, "cyclical")
    reason = f"{seen.words}; the maximum is {top}, the base {foot}"
    return Suggestion(value, low, high, rule, reason, "cyclical", base_lr=base)


def _facts(curve: Curve) -> Mapping[str, Any]:
    facts = curve.settings.get("trial")
    return facts if isinstance(facts, Mapping) else {}


def _fact(curve: Curve, name: str) -> float | None:
    value = _facts(curve).get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


# Single anchors -------------------------------------------------------------------------------------

# L. N. Smith takes the largest rate that does not diverge and stays somewhat below it (arXiv 1803.09820,
# section 4.1).
_READINGS: Mapping[str, Callable[[float, float, float | None], float | None]] = {
    "divergence/4": lambda _steepest, _minimum, divergence: divergence and divergence / 4,
    "argmin/2": lambda _steepest, minimum, _divergence: minimum / 2,
    "midway": lambda steepest, minimum, _divergence: float(np.sqrt(steepest * minimum)),
    "argmin": lambda _steepest, minimum, _divergence: minimum,
    "steepest": lambda steepest, _minimum, _divergence: steepest,
}


def _from_one_anchor(curve: Curve, rule: str) -> Suggestion:
    found, steepest, minimum = read(curve)
    value = _READINGS[rule](steepest, minimum, found.divergence)
    if value is None:
        raise Inconclusive(
            f"the loss never diverged, so rule {rule!r} has nothing to read: sweep to a higher end"
        )
    reason = f"{_seen(found)}; one anchor gives no interval"
    return Suggestion(value, value, value, rule, reason, hyper=curve.hyper)


def _seen(found: Anchors) -> str:
    end = "never diverges" if found.divergence is None else f"has diverged at {found.divergence:.3g}"
    return (
        f"the loss falls from {found.start:.3g} to {found.best:.3g}, fastest at {found.steepest:.3g}, "
        f"is least at {found.minimum:.3g} and {end}"
    )


# Rules of other tools -------------------------------------------------------------------------------


def _from_tool(curve: Curve, rule: str) -> Suggestion:
    # Other tools read one sweep; of several, each is read by itself.
    answers = []
    refusal = Inconclusive("the curve holds no point: run a range test first")
    for mine in repeats(curve):
        value, loss = curve.value[mine], curve.loss[mine]
        try:
            # Infinite and huge losses take the tools where they would take them, in silence.
            with np.errstate(over="ignore", invalid="ignore"):
                answers.append(_rules.RULES[rule](value[value > 0], loss[value > 0]))
        except Inconclusive as error:
            refusal = error
    if not answers:
        raise refusal
    value = float(np.exp(np.mean(np.log(answers)))) if len(answers) > 1 else answers[0]
    spread = (
        "the tool gives no interval" if len(answers) == 1 else f"the interval spans {len(answers)} repeats"
    )
    low, high = min(*answers, value), max(*answers, value)
    return Suggestion(value, low, high, rule, f"{_rules.ORIGIN[rule]}; {spread}", hyper=curve.hyper)


RULES: Mapping[str, Callable[[Curve, str], Suggestion]] = {
    "onecycle": _one_cycle,
    **dict.fromkeys(_READINGS, _from_one_anchor),
    **dict.fromkeys(_rules.RULES, _from_tool),
}
