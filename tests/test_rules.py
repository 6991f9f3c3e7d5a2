from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._rules import ORIGIN, RULES, valley_index

TOOLS = ["minimum", "steep", "valley", "slide", "torch-lr-finder", "ignite", "lightning", "lightning-2.5.2"]
NAN, INF = math.nan, math.inf


def sweep(n: int = 100, noise: float = 0.05, seed: int = 0, diverges: bool = True) -> Any:
    value = np.geomspace(1e-7, 10, n)
    loss = 2.3 - 2 / (1 + (0.02 / value) ** 1.5) + np.random.default_rng(seed).normal(0, noise, n)
    return value, loss + (value / 1.5) ** 5 if diverges else loss


# Each tool written out as its documentation and section-by-section code say: plain loops, one loss at a time.


def fastai_record(value: Any, loss: Any) -> Any:
    mean, best, values, losses = 0.0, INF, [], []
    for count, (v, x) in enumerate(zip(value, loss, strict=True), 1):
        mean = 0.98 * mean + 0.02 * x
        debiased = mean / (1 - 0.98**count)
        values.append(v)
        losses.append(debiased)
        if debiased < best:
            best = debiased
        if debiased > 4 * best:
            break
    values, losses = values[len(value) // 10 : -5], losses[len(value) // 10 : -5]
    for i, x in enumerate(losses):
        if math.isnan(x):
            return np.array(values[:i]), np.array(losses[:i])
    return np.array(values), np.array(losses)


def valley_definition(losses: Any) -> Any:
    n = len(losses)
    length = [1] * n
    for i in range(n):
        for j in range(i):
            if losses[j] > losses[i]:
                length[i] = max(length[i], length[j] + 1)
    end = length.index(max(length))
    start = end - length[end] if end else 0
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


def undebiased_record(value: Any, loss: Any) -> Any:
    values, losses, best = [], [], None
    for v, x in zip(value, loss, strict=True):
        smooth = x if best is None else 0.05 * x + 0.95 * losses[-1]
        best = smooth if best is None or smooth < best else best
        values.append(v)
        losses.append(smooth)
        if smooth > 5 * best:
            break
    return np.array(values), np.array(losses)


def lightning_record(value: Any, loss: Any) -> Any:
    values, losses, mean, best = [], [], 0.0, 0.0
    for step, (v, x) in enumerate(zip(value, loss, strict=True), 1):
        mean = 0.98 * mean + (1 - 0.98) * x
        smooth = mean / (1 - 0.98 ** (step + 1))
        values.append(v)
        losses.append(smooth)
        if step > 1 and smooth > 4 * best:
            break
        if smooth < best or step == 1:
            best = smooth
    kept = [(v, x) for v, x in zip(values[10:-1], losses[10:-1], strict=True) if math.isfinite(x)]
    return np.array([v for v, _ in kept]), np.array([x for _, x in kept])


def by_definition(tool: str, value: Any, loss: Any) -> Any:
    if tool in ("minimum", "steep", "valley", "slide"):
        v, x = fastai_record(value, loss)
    elif tool in ("torch-lr-finder", "ignite"):
        v, x = undebiased_record(value, loss)
    else:
        v, x = lightning_record(value, loss)
    if tool == "minimum":
        return v[x.argmin()] / 10
    if tool == "steep":
        slopes = [(x[i + 1] - x[i]) / (math.log(v[i + 1]) - math.log(v[i])) for i in range(len(x) - 1)]
        return v[int(np.argmin(slopes))]
    if tool == "valley":
        return v[valley_definition(x)]
    if tool == "slide":
        slope, right, left = np.gradient(x), -1, -16
        answer = v[left]
        while left >= -len(x) and abs(slope[right] - slope[left]) > 0.005:
            answer, right, left = v[left], right - 1, left - 1
        return answer
    if tool == "torch-lr-finder":
        return v[10:-5][np.gradient(x[10:-5]).argmin()]
    if tool == "ignite":
        x = x[: x.argmin() + 1]
        return v[int(np.argmin([0.5 * (x[i + 1] - x[i - 1]) for i in range(1, len(x) - 1)])) + 1]
    if tool == "lightning":
        return v[np.gradient(x, v).argmin()]
    return v[np.gradient(x).argmin()]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("n", [60, 100, 237])
@pytest.mark.parametrize("diverges", [True, False])
@pytest.mark.parametrize("noise", [0, 0.3])
def test_each_rule_is_the_tools_own(tool: str, n: int, diverges: bool, noise: float) -> None:
    for seed in range(4):
        value, loss = sweep(n, noise, seed, diverges)
        assert RULES[tool](value, loss) == pytest.approx(by_definition(tool, value, loss), rel=1e-12)


@pytest.mark.parametrize(
    ("tool", "answer"),
    [
        ("minimum", 0.12915496650148856),
        ("steep", 0.09545484566618347),
        ("valley", 0.025950242113997372),
        ("slide", 0.04534878508128582),
        ("torch-lr-finder", 0.11497569953977356),
        ("ignite", 0.11497569953977356),
        ("lightning", 0.004862601580065354),
        ("lightning-2.5.2", 0.11497569953977356),
    ],
)
def test_answers_on_a_known_curve(tool: str, answer: Any) -> None:
    suggestion = Curve(*sweep()).suggest(tool)
    assert suggestion.value == pytest.approx(answer)
    assert (suggestion.low, suggestion.high, suggestion.rule) == (suggestion.value, suggestion.value, tool)
    assert suggestion.reason == f"{ORIGIN[tool]}; the tool gives no interval"


@pytest.mark.parametrize("tool", TOOLS)
def test_nan_and_infinity_are_met_as_the_tool_meets_them(tool: str) -> None:
    value, loss = sweep(diverges=False)
    loss[90:] = NAN
    assert RULES[tool](value, loss) == pytest.approx(by_definition(tool, value, loss))
    loss[90:] = INF
    with np.errstate(invalid="ignore"):
        expected = by_definition(tool, value, loss)
    assert RULES[tool](value, loss) == pytest.approx(expected)


def test_torch_lr_finder_and_ignite_stumble_over_nan() -> None:
    value, loss = sweep(diverges=False)
    loss[70:] = NAN
    # The least of an array with NaN is the NaN: the rate just before the losses end.
    assert RULES["torch-lr-finder"](value, loss) == value[10 + 59]
    assert RULES["ignite"](value, loss) == value[69]


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_valley_in_n_log_n_equals_its_definition(losses: Any) -> None:
    assert valley_index(np.array(losses, dtype=float)) == valley_definition(losses)


@pytest.mark.parametrize(
    ("losses", "index"),
    [
        ([3], 0),
        ([1, 2, 3], 0),
        ([2, 1], -1),
        ([1, 1, 1], 0),
        (list(range(12, 0, -1)), 5),
        (list(range(100, 0, -1)), 48),
    ],
)
def test_valley_of_short_and_monotone_curves(losses: Any, index: Any) -> None:
    assert valley_index(np.array(losses, dtype=float)) == index


@pytest.mark.parametrize(
    ("tool", "least", "need"),
    [
        ("minimum", 6, 1), ("steep", 7, 2), ("valley", 6, 1), ("slide", 23, 16),
        ("torch-lr-finder", 17, 2), ("ignite", 3, 3), ("lightning", 13, 2), ("lightning-2.5.2", 13, 2),
    ],
)  # fmt: skip
def test_too_few_points_are_refused(tool: str, least: Any, need: Any) -> None:
    value = np.geomspace(0.01, 1, least)
    loss = 2 - np.arange(least) / 100
    assert RULES[tool](value, loss) > 0
    why = (
        "it reads up to the least loss only"
        if tool == "ignite"
        else r"\w.* skips the first \w+ and the last.*"
    )
    for n, has in ((0, 0), (1, int(tool == "ignite")), (least - 1, need - 1)):
        with pytest.raises(
            Inconclusive,
            match=rf"^rule '{tool.removesuffix('-2.5.2')}' needs {need} points? and has {has} \({why}\): "
            r"take more steps, or another rule$",
        ):
            RULES[tool](value[:n], loss[:n])


def test_stops_count_the_point_that_stops() -> None:
    value = np.geomspace(0.01, 1, 30)
    loss = np.r_[np.linspace(2, 1, 20), np.full(10, 1e9)]
    for tool in TOOLS:
        if tool != "slide":
            assert RULES[tool](value, loss) <= value[20]
            assert RULES[tool](value, loss) == pytest.approx(by_definition(tool, value, loss))
    # Negative losses stop every tool at once.
    for tool in TOOLS:
        with pytest.raises(Inconclusive, match="needs"):
            RULES[tool](value, np.linspace(-1, -2, 30))


@pytest.mark.parametrize("tool", TOOLS)
def test_values_must_rise(tool: str) -> None:
    with pytest.raises(
        Inconclusive, match="the values do not rise from step to step, so this is no range test"
    ):
        RULES[tool](np.array([0.1, 0.2, 0.2, 0.3]), np.ones(4))


def test_repeats_are_read_one_by_one() -> None:
    value = np.tile(np.geomspace(1e-7, 10, 100), 3)
    loss = np.concatenate([sweep(seed=seed)[1] for seed in range(3)])
    single = [RULES["valley"](*sweep(seed=seed)) for seed in range(3)]
    suggestion = Curve(value, loss, seed=np.repeat([4, 5, 6], 100)).suggest("valley")
    assert suggestion.value == pytest.approx(np.prod(single) ** (1 / 3))
    assert (suggestion.low, suggestion.high) == (min(single), max(single))
    assert suggestion.reason.endswith("; the interval spans 3 repeats")
    # A repeat too short to read is left out; none left is a refusal.
    short = Curve(np.r_[value[:100], 0.1], np.r_[loss[:100], 1], seed=np.r_[np.zeros(100, int), 1])
    assert short.suggest("valley").value == single[0]
    with pytest.raises(Inconclusive, match="needs 1 point"):
        Curve([0.1], [1]).suggest("valley")
    with pytest.raises(Inconclusive, match="the curve holds no point"):
        Curve([], []).suggest("valley")


def test_a_rate_of_zero_is_left_out() -> None:
    value, loss = sweep()
    assert Curve(np.r_[0, value], np.r_[9, loss]).suggest("steep") == Curve(value, loss).suggest("steep")


def test_every_tool_has_a_name_and_an_origin() -> None:
    assert list(RULES) == list(ORIGIN) == TOOLS
