"""From curve to suggestion: the rules by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from reprlib import repr as brief

import numpy as np

from onecycle import _rules
from onecycle._anchors import read, told
from onecycle._curve import Curve
from onecycle._default_rule import cyclical, peak
from onecycle._errors import Inconclusive
from onecycle._smooth import repeats
from onecycle._suggestion import USES, Suggestion, Use


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
    return cyclical(curve, name) if use == "cyclical" else peak(curve, name, use)


def default_rule(curve: Curve) -> str:
    """The rule that reads a curve unless told otherwise.

    A rate is a share of the one with the least loss, or of divergence. Momentum and the like are bounded: a
    share of them means nothing, so the least loss itself is taken, as Smith reads them (arXiv 1803.09820,
    section 4.3).
    """
    return "onecycle" if curve.hyper == "lr" else "argmin"


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
    reason = f"{told(found)}; one anchor gives no interval"
    return Suggestion(value, value, value, rule, reason, hyper=curve.hyper)


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
    "onecycle": peak,
    **dict.fromkeys(_READINGS, _from_one_anchor),
    **dict.fromkeys(_rules.RULES, _from_tool),
}
