"""Schedules: literal values, one step and many, JSON, equality, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onecycle import Cycle, Piecewise, constant, cosine, exponential, linear
from onecycle._schedules import SHAPES, ClosedForm

FAR = 10**12


def refuses(text: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(text)}$")


def values(schedule: ClosedForm, steps: Any) -> list[float]:
    return [schedule(step) for step in steps]


# Values ------------------------------------------------------------------------------------------

SQRT = math.sqrt(0.5)
TABLE: list[tuple[ClosedForm, list[float]]] = [
    (constant(0.5), [0.5, 0.5, 0.5]),
    (linear(1, 3, 4), [1, 1.5, 2, 2.5, 3, 3, 3]),
    (linear(3, -1, 4), [3, 2, 1, 0, -1, -1]),
    (exponential(1e-3, 10, 4), [1e-3, 1e-2, 1e-1, 1, 10, 10]),
    (exponential(8, 1, 3), [8, 4, 2, 1, 1]),
    (cosine(2, 0, 4), [2, 1 + SQRT, 1, 1 - SQRT, 0, 0]),
    (cosine(0, 2, 4), [0, 1 - SQRT, 1, 1 + SQRT, 2, 2]),
    (cosine(0, 3, 3), [0, 0.75, 2.25, 3, 3]),
    # from the first knot's value before it, to the last one's after it
    (Piecewise((2, 4), (5, 7), ("linear",)), [5, 5, 5, 6, 7, 7]),
    # jumps: the later value counts at the jump, also at either end
    (Piecewise.through([(0, 1), (2, 3), (2, 10), (4, 20)]), [1, 2, 10, 15, 20, 20]),
    (Piecewise.through([(0, 1), (0, 4), (2, 6)]), [4, 5, 6]),
    (Piecewise.through([(0, 1), (2, 3), (2, 9)]), [1, 2, 9, 9]),
    (Piecewise.through([(1, 1), (1, 2), (1, 3)]), [1, 3, 3]),
    # pieces of several shapes
    (
        Piecewise((0, 2, 4, 6), (1, 3, 12, 0), ("linear", "exponential", "cosine")),
        [1, 2, 3, 6, 12, 6, 0, 0],
    ),
    (Piecewise.through([(7, 2)]), [2, 2]),
    (Piecewise.through([(0, 1), (0.5, 2), (2.5, 4)]), [1, 2.5, 3.5, 4]),
    # triangles
    (Cycle(1, 5, 4, 4), [1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3]),
    (Cycle(5, 1, 4, 4), [5, 4, 3, 2, 1, 2, 3, 4, 5, 4, 3]),
    (Cycle(0, 12, 2, 6), [0, 6, 12, 10, 8, 6, 4, 2, 0, 6, 12, 10]),
    (Cycle(0, 12, 6, 2), [0, 2, 4, 6, 8, 10, 12, 6, 0, 2]),
    (Cycle(0, 8, 1, 1), [0, 8, 0, 8, 0]),
    (Cycle(1, 2, 1.5, 0.5), [1, 5 / 3, 1, 5 / 3]),
    # half the height each cycle
    (
        Cycle(1, 5, 4, 4, "triangular2"),
        [1, 2, 3, 4, 5, 4, 3, 2, 1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1, 1.25, 1.5, 1.75, 2, 1.75],
    ),
    # times gamma each step
    (
        Cycle(1, 5, 4, 4, "exp_range", 0.5),
        [1 + 4 * x * 0.5**i for i, x in enumerate([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0.25])],
    ),
    (Cycle(0, 1, 1, 1, "exp_range"), [0, 1, 0, 1]),
    # gamma means nothing to the other modes
    (Cycle(0, 8, 1, 1, "triangular", 0.5), [0, 8, 0, 8]),
    (Cycle(0, 8, 1, 1, "triangular2", 0.5), [0, 8, 0, 4, 0, 2]),
    # an amplitude of one's own
    (Cycle(1, 3, 1, 1, lambda cycle: 1 / cycle), [1, 3, 1, 2, 1, 1 + 2 / 3]),
    (Cycle(1, 3, 1, 1, lambda step: step, per="step"), [1, 3, 1, 7, 1, 11]),
    # held from `last` on
    (Cycle(1, 5, 4, 4, last=3), [1, 2, 3, 4, 4, 4]),
    (Cycle(0, 8, 1, 1, "triangular2", last=3), [0, 8, 0, 4, 4, 4]),
    (Cycle(0, 8, 1, 1, "exp_range", 0.5, last=3), [0, 4, 0, 1, 1, 1]),
    (Cycle(2, 8, 3, 3, last=0), [2, 2, 2]),
]


@pytest.mark.parametrize(("schedule", "expected"), TABLE)
def test_values_one_by_one_and_at_once(schedule: ClosedForm, expected: list[float]) -> None:
    assert values(schedule, range(len(expected))) == pytest.approx(expected, rel=1e-15, abs=1e-15)
    np.testing.assert_allclose(schedule(np.arange(len(expected))), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("schedule", [linear(1, 3, 7), cosine(1, 3, 7), exponential(1, 3, 7)])
def test_sweeps_hit_both_ends_exactly_and_hold(schedule: Piecewise) -> None:
    assert values(schedule, [0, 7, 8, FAR]) == [1, 3, 3, 3]
    assert schedule(np.array([0, 7, 8, FAR])).tolist() == [1, 3, 3, 3]
    assert schedule(6.99) < 3


def test_a_constant_is_one_knot() -> None:
    assert constant(0.5) == Piecewise((0,), (0.5,))


def test_a_peak_between_steps_is_hit_exactly() -> None:
    assert Cycle(0, 1, 0.1, 0.2)(0.1) == 1
    assert Cycle(0, 1, 0.1, 0.2)(np.array([0.1])).tolist() == [1]


def test_between_steps() -> None:
    assert linear(0, 1, 4)(0.5) == 0.125
    assert Cycle(0, 1, 4, 4)(4.5) == 0.875
    assert exponential(1, 16, 4)(0.5) == pytest.approx(math.sqrt(2), rel=1e-15)


def test_last_holds_the_value_of_a_fraction_of_a_step() -> None:
    assert Cycle(0, 1, 4, 4, last=2.5)(np.array([2, 3, FAR])).tolist() == [0.5, 0.625, 0.625]


def test_a_cosine_piece_is_the_same_bits_one_by_one_and_in_arrays() -> None:
    steps = np.arange(1000)
    wave = cosine(1, 0, 997)
    values = wave(steps)
    assert values.tolist() == [wave(step) for step in steps.tolist()] == wave._series(0, 1000)
    part = np.minimum(steps / 997, 1).tolist()
    assert values == pytest.approx([(1 + math.cos(math.pi * each)) / 2 for each in part], abs=3e-16)
    assert wave(996) == pytest.approx(math.sin(math.pi / 2 / 997) ** 2, rel=1e-13)  # of 1 - 996/997, rounded


def test_a_cosine_piece_loses_no_digits_near_a_tiny_end() -> None:
    """With (1 + cos) / 2 the last steps towards 1e-12 would be wrong in the fifth digit."""
    steps = 10_000
    assert cosine(1e-12, 1.0, steps)(0) == 1e-12
    assert cosine(1e-12, 1.0, steps)(np.arange(1)).tolist() == [1e-12]
    before_last = cosine(1.0, 1e-12, steps)(steps - 1)
    assert before_last == pytest.approx(1e-12 + math.sin(math.pi / 2 / steps) ** 2, rel=1e-12)


def test_cycles_go_on_without_end() -> None:
    assert Cycle(1, 5, 4, 4)(FAR + 3) == 4
    assert Cycle(1, 5, 4, 4, "triangular2")(FAR + 3) == 1
    assert Cycle(1, 5, 4, 4, "exp_range", 0.99)(FAR + 3) == 1
    assert Cycle(1, 5, 4, 4, "triangular2")(np.array([FAR + 3])).tolist() == [1]


def test_a_callable_mode_is_given_the_cycle_as_an_int() -> None:
    heights = {1: 1.0, 2: 0.5}
    seen: list[float] = []

    def mode(cycle: float) -> float:
        seen.append(cycle)
        return heights[int(cycle)]

    schedule = Cycle(0, 8, 1, 1, mode)
    assert [schedule(1), schedule(3.0), schedule(np.array(3))] == [8, 4, 4]
    assert schedule(np.arange(4)).tolist() == [0, 8, 0, 4]
    assert {type(cycle) for cycle in seen} == {int}


def test_a_callable_mode_is_given_the_step_itself() -> None:
    seen: list[float] = []

    def mode(step: float) -> float:
        seen.append(step)
        return 1.0

    values(Cycle(0, 1, 2, 2, mode, per="step", last=5), [0, 3, 7])
    assert seen == [0, 3, 5]


@pytest.mark.parametrize(
    "schedule", [constant(2), linear(0, 2, 3), Cycle(0, 2, 3, 3), Cycle(0, 2, 3, 3, lambda _: 1)]
)
def test_results_are_plain_floats_or_float64_arrays(schedule: ClosedForm) -> None:
    step: Any
    for step in (0, 1, 10, 2.5, True, np.int64(2), np.float32(1), np.array(1)):
        assert type(schedule(step)) is float
    for steps in (np.arange(4), np.arange(4, dtype=np.uint8), np.ones((2, 1, 3), np.float32), np.empty(0)):
        result = schedule(steps)
        assert result.dtype == np.float64
        assert result.shape == steps.shape


def test_an_array_is_not_written_to() -> None:
    steps = np.arange(6.0)
    for schedule in (linear(0, 1, 3), Cycle(0, 1, 2, 2, last=3)):
        schedule(steps)
        assert steps.tolist() == [0, 1, 2, 3, 4, 5]


# Properties --------------------------------------------------------------------------------------

positive = st.floats(1e-9, 1e3)
shapes = st.sampled_from(SHAPES)


@st.composite
def piecewises(draw: st.DrawFn) -> Piecewise:
    n = draw(st.integers(1, 6))
    steps = sorted(draw(st.lists(st.integers(0, 40), min_size=n, max_size=n)))
    return Piecewise(
        tuple(steps),
        tuple(draw(st.lists(positive, min_size=n, max_size=n))),
        tuple(draw(st.lists(shapes, min_size=n - 1, max_size=n - 1))),
    )


@st.composite
def cycles(draw: st.DrawFn) -> Cycle:
    return Cycle(
        draw(positive),
        draw(positive),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 20)),
        draw(st.sampled_from(["triangular", "triangular2", "exp_range"])),
        draw(st.floats(0.5, 1)),
        "cycle",
        draw(st.none() | st.integers(0, 60)),
    )


@settings(deadline=None)
@given(piecewises() | cycles(), st.lists(st.integers(0, 100), max_size=12), st.booleans())
@example(constant(1.0), [], True)
def test_many_steps_give_what_each_gives_alone(schedule: ClosedForm, steps: list[int], square: bool) -> None:
    array = np.array(steps * (2 if square else 1), np.int64)
    if square:
        array = array.reshape(2, 1, len(steps))
    alone = np.array([schedule(int(step)) for step in array.flat]).reshape(array.shape)
    np.testing.assert_allclose(schedule(array), alone, rtol=1e-13)


@settings(deadline=None)
@given(piecewises() | cycles(), st.integers(0, 70), st.integers(0, 40))
@example(Piecewise((0.5, 3.25, 9), (1, 3, 2), ("cosine", "linear")), 0, 12)
@example(Piecewise((0, 7, 7, 9), (1, 3, 2, 1e-9), ("cosine", "cosine", "exponential")), 0, 12)
@example(Cycle(0.1, 0.7, 3.7, 2.3), 0, 40)
@example(Piecewise((0, 3), (1, 2**60), ("linear",)), 0, 5)
@example(linear(1, 3, 4), FAR, 3)
@example(Cycle(0, 1, 3, 4), 2**53 - 2, 3)
def test_a_series_has_the_bits_of_its_steps(schedule: ClosedForm, first: int, count: int) -> None:
    assert schedule._series(first, count) == [schedule(step) for step in range(first, first + count)]


@settings(deadline=None)
@given(piecewises() | cycles(), st.integers(0, FAR))
def test_values_stay_between_the_extremes(schedule: Piecewise | Cycle, step: int) -> None:
    ends = schedule.values if isinstance(schedule, Piecewise) else (schedule.start, schedule.peak)
    ulps = 1e-15 * max(ends)
    assert min(ends) - ulps <= schedule(step) <= max(ends) + ulps


@settings(deadline=None)
@given(piecewises() | cycles())
def test_json_and_dict_round_trips_are_equal(schedule: Piecewise | Cycle) -> None:
    again = ClosedForm.from_json(schedule.to_json())
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert repr(again) == repr(schedule)
    assert ClosedForm.from_dict(schedule.to_dict()) == schedule


# Data classes ------------------------------------------------------------------------------------


def test_equality_and_hash_go_by_value() -> None:
    assert linear(0, 1, 4) == Piecewise([0.0, 4.0], [0.0, 1.0], ["linear"])  # type: ignore[arg-type]
    assert len({linear(0, 1, 4), linear(0, 1, 4), linear(0, 1, 5), cosine(0, 1, 4)}) == 3
    assert Cycle(0, 1, 2, 2) == Cycle(0, 1, 2, 2, "triangular", 1.0, "cycle", None)
    assert len({Cycle(0, 1, 2, 2), Cycle(0.0, 1.0, 2.0, 2.0), Cycle(0, 1, 2, 3)}) == 2
    assert len({linear(0, 1, 4), Cycle(0, 1, 2, 2)}) == 2


@pytest.mark.parametrize(("schedule", "field"), [(linear(0, 1, 4), "values"), (Cycle(0, 1, 2, 2), "peak")])
def test_schedules_are_frozen(schedule: ClosedForm, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, field, 3)


def test_numbers_of_any_library_become_pythons_own() -> None:
    piecewise = Piecewise(np.arange(2), np.array([0.5, 2], np.float32), ("linear",))  # type: ignore[arg-type]
    assert piecewise == Piecewise((0, 1), (0.5, 2.0), ("linear",))
    assert [type(n) for n in (*piecewise.steps, *piecewise.values)] == [int, int, float, float]
    cycle = Cycle(np.float32(0.5), Fraction(3, 2), np.int64(2), np.int8(3), last=np.uint16(4))  # type: ignore[arg-type]
    assert [type(n) for n in (cycle.start, cycle.peak, cycle.up, cycle.down, cycle.last)] == [
        float,
        float,
        int,
        int,
        int,
    ]
    assert cycle == Cycle(0.5, 1.5, 2, 3, last=4)
    assert ClosedForm.from_json(cycle.to_json()) == cycle
    assert ClosedForm.from_json(piecewise.to_json()) == piecewise


# JSON --------------------------------------------------------------------------------------------


def test_json_is_plain_to_read() -> None:
    assert linear(0.1, 2, 80).to_dict() == {
        "kind": "piecewise",
        "steps": [0, 80],
        "values": [0.1, 2],
        "shapes": ["linear"],
    }
    assert json.loads(Cycle(0.1, 3, 5, 7, "exp_range", 0.9, last=11).to_json()) == {
        "kind": "cycle",
        "start": 0.1,
        "peak": 3,
        "up": 5,
        "down": 7,
        "mode": "exp_range",
        "gamma": 0.9,
        "per": "cycle",
        "last": 11,
    }
    assert ClosedForm.from_json('{"kind": "cycle", "start": 0, "peak": 1, "up": 2, "down": 2}') == Cycle(
        0, 1, 2, 2
    )


def test_json_cannot_hold_a_callable() -> None:
    with refuses(
        f"mode {math.sqrt!r} is a callable, which JSON cannot hold: "
        "use one of triangular, triangular2, exp_range, or keep the arguments and build the schedule anew"
    ):
        Cycle(0, 1, 2, 2, math.sqrt).to_json()


KINDS = "schedule kind must be one of piecewise, cycle, got "
NUMBER = "must be a finite number, got"
PIECES = "shapes must be one of linear, cosine, exponential for each of"
PIECEWISE = '{"kind": "piecewise", "steps": %s, "values": %s, "shapes": %s}'
CYCLE = '{"kind": "cycle", "start": 0, "peak": 1, "up": 2, "down": 2, %s}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("lr = 3", "this is no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "a schedule is described by a JSON object, got []"),
        ("null", "a schedule is described by a JSON object, got None"),
        ("NaN", "a schedule is described by a JSON object, got nan"),
        ('"piecewise"', "a schedule is described by a JSON object, got 'piecewise'"),
        ("{}", KINDS + "None"),
        ('{"kind": "spline"}', KINDS + "'spline'"),
        ('{"kind": ["cycle"]}', KINDS + "['cycle']"),
        (
            '{"kind": "piecewise", "values": [1]}',
            "this is no piecewise schedule: "
            "Piecewise.__init__() missing 1 required positional argument: 'steps'",
        ),
        (
            CYCLE % '"phase": 3',
            "this is no cycle schedule: Cycle.__init__() got an unexpected keyword argument 'phase'",
        ),
        (PIECEWISE % ("null", "[1]", "[]"), "steps must be a sequence, got None"),
        (PIECEWISE % ("[0]", "1", "[]"), "values must be a sequence, got 1"),
        (PIECEWISE % ("[0]", "[1]", "false"), "shapes must be a sequence, got False"),
        (PIECEWISE % ('"ab"', "[1]", "[]"), "steps must be a sequence, got 'ab'"),
        (PIECEWISE % ('[0, "1"]', "[1, 2]", '["linear"]'), f"each of steps {NUMBER} '1'"),
        (PIECEWISE % ("[0, [1]]", "[1, 2]", '["linear"]'), f"each of steps {NUMBER} [1]"),
        (PIECEWISE % ("[0, Infinity]", "[1, 2]", '["linear"]'), f"each of steps {NUMBER} inf"),
        (PIECEWISE % ("[0]", "[null]", "[]"), f"each of values {NUMBER} None"),
        (PIECEWISE % ("[0]", "[true]", "[]"), f"each of values {NUMBER} True"),
        (PIECEWISE % ("[0]", "[NaN]", "[]"), f"each of values {NUMBER} nan"),
        (PIECEWISE % ("[0]", "[-1e999]", "[]"), f"each of values {NUMBER} -inf"),
        (PIECEWISE % ("[0, 1]", "[1, 2]", "[3]"), f"{PIECES} 1 pieces between steps, got [3]"),
        (
            PIECEWISE % ("[0, 1]", "[1, 2]", '[["linear"]]'),
            f"{PIECES} 1 pieces between steps, got [['linear']]",
        ),
        (CYCLE % '"start": null', f"start {NUMBER} None"),
        (CYCLE % '"last": "9"', f"last {NUMBER} '9'"),
        (
            CYCLE % '"mode": ["triangular"]',
            "mode must be one of triangular, triangular2, exp_range or a callable, got ['triangular']",
        ),
        (CYCLE % '"per": {}', "per must be 'cycle' or 'step', got {}"),
    ],
)
def test_malformed_json_is_refused_in_a_sentence(text: str, message: str) -> None:
    with refuses(message):
        ClosedForm.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"kind":' * 100_000,
        PIECEWISE % ("[" * 900 + "]" * 900, "[1]", "[]"),
        CYCLE % ('"mode": ' + "[" * 900 + "]" * 900),
        PIECEWISE % ("[0]", f"[{'9' * 400}]", "[]"),
        PIECEWISE % ("[0]", f"[{'9' * 10_000}]", "[]"),
        CYCLE % f'"last": {"9" * 400}',
        CYCLE % f'"up": {"9" * 400}',
    ],
)
def test_outsized_json_is_a_value_error_of_readable_length(text: str) -> None:
    with pytest.raises(ValueError, match=r"this is no JSON: |must be a finite number|mode must be") as caught:
        ClosedForm.from_json(text)
    assert len(str(caught.value)) < 200


def test_deep_json_is_told_as_such() -> None:
    with pytest.raises(ValueError, match=r"^this is no JSON: ") as caught:
        ClosedForm.from_json("[" * 100_000)
    assert isinstance(caught.value.__cause__, RecursionError)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["steps", "values", "shapes", "start", "peak", "up", "down", "mode", "gamma", "per", "last", "x"]


@settings(deadline=None)
@given(st.sampled_from(["piecewise", "cycle"]), st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_garbage_gives_a_schedule_or_a_value_error(kind: str, fields: dict[str, Any]) -> None:
    whole = {"start": 0, "peak": 1, "up": 2, "down": 2} if kind == "cycle" else {"steps": [0], "values": [1]}
    try:
        schedule = ClosedForm.from_json(json.dumps({**whole, **fields, "kind": kind}))
    except ValueError as error:
        assert str(error)  # noqa: PT017
    else:
        assert math.isfinite(schedule(3))


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "knots", "shapes", "message"),
    [
        ((), (), (), "steps and values must be of one length >= 1, got 0 and 0"),
        ((0, 1), (1,), ("linear",), "steps and values must be of one length >= 1, got 2 and 1"),
        ((-1, 1), (1, 2), ("linear",), "steps must be >= 0, got -1"),
        ((0, 5, 3), (1, 2, 3), ("linear",) * 2, "steps must be in order, got 3 after 5"),
        ((0, math.nan), (1, 2), ("linear",), f"each of steps {NUMBER} nan"),
        ((0, True), (1, 2), ("linear",), f"each of steps {NUMBER} True"),
        ((0, 1), (1, math.inf), ("linear",), f"each of values {NUMBER} inf"),
        ((0, 1), (1, "a"), ("linear",), f"each of values {NUMBER} 'a'"),
        ((0,), (10**309,), (), f"each of values {NUMBER} 100000000000000000...0000000000000000000"),
        ((0, 1), (1, 2), (), f"{PIECES} 1 pieces between steps, got ()"),
        ((0,), (1,), ("linear",), f"{PIECES} 0 pieces between steps, got ('linear',)"),
        ((0, 1, 2), (1, 2, 3), ("linear", "cos"), f"{PIECES} 2 pieces between steps, got ('linear', 'cos')"),
        ((0, 1), (0, 2), ("exponential",), "values of an exponential piece must be > 0, got 0 and 2"),
        ((0, 1), (2, 0), ("exponential",), "values of an exponential piece must be > 0, got 2 and 0"),
        (
            (0, 1, 2),
            (2, -1, -3),
            ("linear", "exponential"),
            "values of an exponential piece must be > 0, got -1 and -3",
        ),
        (3, (1,), (), "steps must be a sequence, got 3"),
    ],
)
def test_piecewise_refuses(steps: Any, knots: Any, shapes: Any, message: str) -> None:
    with refuses(message):
        Piecewise(steps, knots, shapes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": math.nan}, f"start {NUMBER} nan"),
        ({"peak": "1"}, f"peak {NUMBER} '1'"),
        ({"up": math.inf}, f"up {NUMBER} inf"),
        ({"up": 0}, "up must be a number of steps > 0, got 0"),
        ({"down": None}, f"down {NUMBER} None"),
        ({"down": -0.5}, "down must be a number of steps > 0, got -0.5"),
        (
            {"mode": "square"},
            "mode must be one of triangular, triangular2, exp_range or a callable, got 'square'",
        ),
        ({"gamma": False}, f"gamma {NUMBER} False"),
        ({"gamma": 0}, "gamma must lie in (0, 1], got 0"),
        ({"gamma": 1.5}, "gamma must lie in (0, 1], got 1.5"),
        ({"per": "epoch"}, "per must be 'cycle' or 'step', got 'epoch'"),
        ({"last": -1}, "last must be a step >= 0 or None, got -1"),
        ({"last": math.inf}, f"last {NUMBER} inf"),
    ],
)
def test_cycle_refuses(changes: dict[str, Any], message: str) -> None:
    with refuses(message):
        Cycle(**{"start": 0, "peak": 1, "up": 2, "down": 2, **changes})


def test_numbers_of_the_largest_size_are_fine() -> None:
    largest = 1.7976931348623157e308
    assert constant(largest)(0) == largest
    assert constant(-largest)(0) == -largest


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (-1, "-1"),
        (-0.5, "-0.5"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (np.float32(-2), "-2.0"),
        (np.array([3, -1, -2]), "-1.0"),
        (np.array([[0, math.nan]]), "nan"),
        (np.array([math.inf, 1]), "inf"),
        (np.array(-3), "-3.0"),
        ([1, -4], "-4.0"),
    ],
)
@pytest.mark.parametrize("schedule", [linear(0, 1, 4), Cycle(0, 1, 2, 2), Cycle(0, 1, 2, 2, last=3)])
def test_a_step_counts_updates(schedule: ClosedForm, step: Any, shown: str) -> None:
    with refuses(f"step must be finite and >= 0, got {shown}: it counts completed optimizer updates"):
        schedule(step)


def test_an_exponential_piece_may_span_more_than_a_float() -> None:
    for a, b in ((1e-300, 1e300), (1e300, 1e-300), (5e-324, sys.float_info.max)):
        schedule = exponential(a, b, 10)
        logs = np.linspace(math.log10(a), math.log10(b), 11)
        got = np.log10(values(schedule, range(11)))
        assert got == pytest.approx(logs, rel=1e-12, abs=1e-12)
        assert (schedule(0), schedule(10), schedule(11)) == (a, b, b)
        assert schedule(np.arange(12.0)) == pytest.approx(values(schedule, range(12)), rel=1e-12)


def test_a_step_too_large_for_a_float() -> None:
    far = 10**400
    for schedule in (linear(1, 3, 4.5), constant(3), exponential(1, 3, 2), cosine(1, 3, 2)):
        assert schedule(far) == 3
    assert Cycle(0, 1, 2, 2, last=2)(far) == 1
    for endless in (Cycle(0, 1, 2, 2), Cycle(0, 1, 2.5, 2), Cycle(0, 1, 2, 2, "triangular2")):
        with pytest.raises(ValueError, match=r"^step must be finite and >= 0, got 1000.*: it counts"):
            endless(far)
    with pytest.raises(ValueError, match=r"^step must be finite and >= 0, got array\(\[.*\): it counts"):
        linear(1, 3, 4)(np.array([0, far]))
