"""The default rule: a share of the trough, or, with SGD, of the edge; and how far the weights move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from onecycle._anchors import Anchors, anchors_of, check, lowest, rises_from, told, turn
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._moves import moves_at
from onecycle._smooth import repeats
from onecycle._suggestion import Suggestion, Use

# Chosen on the dev half of benchmarks/regret, see docs/lab/2026-11-default-rule.md: sweeps of 100 steps,
# each task's best rate for 1cycle against what the curve shows.
_SHARE = 0.5  # of the middle of the trough, or else of the rate with the least loss
# Times the rate where the fall flattens is that middle at most: a net whose units have died outputs the mean,
# and its loss stays low up to any rate.
_WIDEST = 5.0
_SHARE_OF_EDGE = 0.14  # with SGD: of the rate of divergence
# Of the rate at which an update moves the weights by a sixth of their size. That hardly differs from seed to
# seed, and is off where the loss is not: what lies between the two, in decades, is nearer than either.
_SHARE_OF_MOVES = 1 / 5
_TO_MOVES = 2 / 5  # the way, in decades
_FARTHEST_BY_MOVES = 3.0  # times that it is moved by that at most
# Times from what the loss says: the size that the moves are measured by is then none that matters.
_OUT_OF_THE_QUESTION = 100.0
# What was seen before is no measure of what is new: small data want smaller rates.
_BY_PASSES = -1 / 2  # the power of the number of passes over the data
# With SGD: counts as it where the loss falls up to there. Nobody trains with more, and a net whose units have
# died there does not diverge.
_HIGHEST = 10.0
# With SGD: the middle of the best rates of tasks. What is read is known to half a decade, these differ by
# 0.8, so the answer lies between the two.
_MOSTLY = 0.1
_FARTHEST = 1.5  # times that what is read is moved there at most
# Likewise where the loss never fell: at more, deep plain nets are lost now and then.
_MOSTLY_ON_PLATEAU = 0.07
_FARTHEST_ON_PLATEAU = 4.0  # that edge is known to a factor of two
# The interval reaches this many times down and up; it held the best rate of nine sweeps in ten.
_REACH: Mapping[Use, float] = {"one_cycle": 7.0, "cyclical": 15.0, "constant": 10.0}
_WIDER = 1.5  # times that, where the curve has no turn
_CONSTANT = 0.5  # of what is read, for a rate that holds throughout, with the momentum of the test
_BASE = 4  # Smith (arXiv 1506.01186, section 3.3): a base a third or a fourth of the maximum
_PEAK_MOMENTUM = 0.85  # of 1cycle, where its rate is highest
# Their steps grow with momentum; those of the Adam family do not.
HEAVY_BALL = ("SGD", "RMSprop")


@dataclass(frozen=True)
class _Reading:
    """What a curve shows, and the rate of which 1cycle does best at a share."""

    found: Anchors
    words: str
    rate: float
    share: float
    what: str
    end: float | None  # from which on it diverges
    factors: Mapping[str, float]  # further ones, by their words

    @property
    def peak(self) -> float:
        """The rate for 1cycle, with the momentum of the test."""
        return self.rate * self.share * math.prod(self.factors.values())


def peak(curve: Curve, rule: str, use: Use = "one_cycle") -> Suggestion:
    """The maximum for 1cycle, or a constant rate, with the momentum of the test.

    It is a share of what was seen, less where the test was run otherwise than the training.
    """
    seen = _look(curve)
    constant = {f"{_CONSTANT:g} for a rate that does not fall": _CONSTANT}
    factors = {
        f"1cycle does best at about {seen.share:g} of {seen.what}": seen.share,
        **(constant if use == "constant" else for_momentum(curve)),
        **seen.factors,
    }
    value = seen.rate * math.prod(factors.values())
    low, high = _interval(seen, value, use)
    if use == "one_cycle":
        usual = _towards_usual(curve, value, on_plateau=seen.found.minimum is None)
        factors |= usual
        value *= math.prod(usual.values())
    reason = f"{seen.words}; {', times '.join(factors)}"
    return Suggestion(value, low, high, rule, reason, use, hyper=curve.hyper)


def _look(curve: Curve) -> _Reading:
    """The reading of a curve: of several sweeps, the median of their readings."""
    parts = repeats(curve)
    if len(parts) <= 1:
        return _look_at(curve)
    seen = []
    for mine in parts:
        with suppress(Inconclusive):
            seen.append(_look_at(_part(curve, mine)))
    # A fall that is lost in the noise of one sweep may be clear in all of them.
    if 2 * len(seen) < len(parts):
        return _look_at(curve)
    seen.sort(key=lambda reading: reading.peak)
    lower, upper = seen[(len(seen) - 1) // 2], seen[len(seen) // 2]
    words = f"in the middle one of {len(seen)} sweeps {lower.words}"
    if len(seen) % 2:
        return replace(lower, words=words)
    way = math.sqrt(upper.peak / lower.peak)
    between = {f"{way:.3g} for the other sweep in the middle, half of the way to it": way}
    return replace(lower, words=words, factors={**lower.factors, **between})


def _part(curve: Curve, mine: Any) -> Curve:
    """One sweep of several, by what selects its points."""
    return Curve(
        curve.value[mine],
        curve.loss[mine],
        curve.step[mine],
        hyper=curve.hyper,
        sweep=curve.sweep,
        settings=curve.settings,
        moved=None if curve.moved is None else curve.moved[mine],
    )


def _look_at(curve: Curve) -> _Reading:
    seen = _by_loss(curve)
    # On a plateau, where the loss never falls, the moves tell nothing.
    return seen if seen.found.minimum is None else _heeding_moves(curve, seen)


def _by_loss(curve: Curve) -> _Reading:
    # SGD's best rate lies near the edge, that of optimizers which divide by the gradient's size need not.
    smoothed, sgd = check(curve), _with_sgd(curve)
    found = anchors_of(smoothed)
    if sgd and found.minimum is None:
        rises = rises_from(smoothed)
        if rises is not None and rises * _SHARE_OF_EDGE >= 10 * lowest(curve):
            return _on_plateau(found, rises)
    if sgd and found.falling and curve.hyper == "lr" and curve.value.max() >= _HIGHEST * (1 - 1e-9):
        return _on_slope(curve, found)
    _, minimum = turn(curve, smoothed, found)
    end, factors = found.divergence, for_passes(curve)
    if sgd and end is not None:
        return _Reading(found, told(found), end, _SHARE_OF_EDGE, "that with SGD", end, factors)
    rate, what = minimum, "the rate with the least loss"
    if found.trough is not None:
        rate, what = found.trough, f"{found.trough:.3g}, the middle of its trough"
    if found.floor is not None and rate > _WIDEST * found.floor:
        rate = _WIDEST * found.floor
        what = f"{rate:.3g}, {_WIDEST:g} times where it flattens, as the trough is wide"
    return _Reading(found, told(found), rate, _SHARE, what, end, factors)


def _on_plateau(found: Anchors, rises: float) -> _Reading:
    words = f"the loss never clearly falls from {found.start:.3g}, and rises from {rises:.3g} on"
    # Of data that taught nothing, it does not matter how often they were seen.
    return _Reading(found, words, rises, _SHARE_OF_EDGE, "that with SGD", rises, factors={})


def _on_slope(curve: Curve, found: Anchors) -> _Reading:
    end = float(curve.value.max())
    words = (
        f"the loss falls from {found.start:.3g} to {found.best:.3g} and still does at {end:.3g}, "
        f"but hardly any net trains beyond {_HIGHEST:g}"
    )
    return _Reading(found, words, _HIGHEST, _SHARE_OF_EDGE, "that with SGD", end, for_passes(curve))


def _heeding_moves(curve: Curve, seen: _Reading) -> _Reading:
    """The reading moved two fifths of the way, in decades, to what the weights' moves say, up to a bound."""
    moves = moves_at(curve)
    if moves is None:
        return seen
    apart = moves * _SHARE_OF_MOVES / (seen.rate * seen.share)
    if not 1 / _OUT_OF_THE_QUESTION <= apart <= _OUT_OF_THE_QUESTION:
        return seen
    way = apart**_TO_MOVES
    near = min(max(way, 1 / _FARTHEST_BY_MOVES), _FARTHEST_BY_MOVES)
    how = "two fifths of the way to" if near == way else "the most, towards"
    move = "moves" if moves <= curve.value.max() else "would move"
    said = f"{near:.3g}, {how} a fifth of {moves:.3g}, where an update {move} the weights by a sixth"
    return replace(seen, factors={said: near, **seen.factors})


def for_momentum(curve: Curve) -> dict[str, float]:
    """The factor for a test without the momentum that 1cycle has at its peak, by its words; or nothing."""
    momentum = _fact(curve, "momentum")
    if momentum is None or facts_of(curve).get("optimizer") not in HEAVY_BALL:
        return {}
    if not 0 <= momentum < _PEAK_MOMENTUM:
        return {}
    # Between noise, which allows 1 - m times the rate, and curvature, which allows 1 + m times.
    factor = math.sqrt((1 - _PEAK_MOMENTUM**2) / (1 - momentum**2))
    return {f"{factor:.2g} for a momentum that was {momentum:g} and becomes {_PEAK_MOMENTUM:g}": factor}


def for_passes(curve: Curve) -> dict[str, float]:
    """The factor for a test that went over the data more than once, by its words; or nothing."""
    number = passes(curve)
    if number <= 1:
        return {}
    factor = number**_BY_PASSES
    return {f"{factor:.2g} for going over the data {number:.2g} times": factor}


def passes(curve: Curve) -> float:
    """How often the test went over the data; 1 where less, or not known."""
    per_epoch = _fact(curve, "steps_per_epoch")
    return max(int(curve.step.max()) / per_epoch, 1.0) if per_epoch else 1.0


def _towards_usual(curve: Curve, value: float, *, on_plateau: bool) -> dict[str, float]:
    if curve.hyper != "lr" or not _with_sgd(curve):
        return {}
    usual, farthest = (_MOSTLY_ON_PLATEAU, _FARTHEST_ON_PLATEAU) if on_plateau else (_MOSTLY, _FARTHEST)
    factor = min(max(usual / value, 1 / farthest), farthest)
    return {f"{factor:.2g} towards {usual:g}, near which most nets train best with SGD": factor}


def _interval(seen: _Reading, value: float, use: Use) -> tuple[float, float]:
    turns = seen.found.minimum is not None and not seen.found.falling
    reach = _REACH[use] if turns else _WIDER * _REACH[use]
    return value / reach, min(value * reach, max(seen.end or math.inf, value))


def cyclical(curve: Curve, rule: str) -> Suggestion:
    """Base and maximum as Smith reads them: where the loss begins to fall, where the fall flattens.

    Where it flattens only shortly before it diverges, a long training does not bear that rate: the maximum
    is the peak for 1cycle there, with the momentum of the test.

    Source: L. N. Smith, arXiv 1506.01186, section 3.3.
    """
    seen = _look(curve)
    found = seen.found
    most = seen.peak
    if found.floor is not None and found.floor <= most:
        value, top = found.floor, "where it flattens"
    else:
        share = ", times ".join([f"{seen.share:g} of {seen.what}", *seen.factors])
        value, top = most, f"{share}, before it flattens"
    if found.onset is not None and found.onset < value:
        base, foot = found.onset, "where it begins to fall"
    else:
        base, foot = value / _BASE, f"a {_BASE:g}th of that, as it does not begin to fall below"
    low, high = _interval(seen, value, "cyclical")
    reason = f"{seen.words}; the maximum is {top}, the base {foot}"
    return Suggestion(value, low, high, rule, reason, "cyclical", base_lr=base)


def _with_sgd(curve: Curve) -> bool:
    return facts_of(curve).get("optimizer") == "SGD"


def facts_of(curve: Curve) -> Mapping[str, Any]:
    """What the trial of a curve told about itself; nothing where it did not."""
    facts = curve.settings.get("trial")
    return facts if isinstance(facts, Mapping) else {}


def _fact(curve: Curve, name: str) -> float | None:
    value = facts_of(curve).get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
