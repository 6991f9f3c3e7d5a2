"""Policies: literal values, forms, ends, JSON, equality, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle import Cycle, Piecewise, Schedule, constant, cosine, cyclical, linear, one_cycle
from onecycle._policy import Policy

FAR = 10**12


def refuses(text: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(text)}$")


def values(schedule: Schedule | None, steps: int | list[int]) -> list[float]:
    assert schedule is not None
    return [schedule(step) for step in (range(steps) if isinstance(steps, int) else steps)]


def close(expected: list[float]) -> Any:
    return pytest.approx(expected, rel=1e-14, abs=1e-17)


# 1cycle ------------------------------------------------------------------------------------------


def test_the_example_of_the_article() -> None:
    """0.08 to 0.8 in 41 epochs of 98 steps, back in 41, 13 more to a tenth of 0.08."""
    epoch = 98
    policy = one_cycle(0.8, 95 * epoch, min_lr=0.08, final_lr=0.008, tail=13 / 95)
    assert policy.total_steps == 9310
    assert policy.lr == Piecewise.through([(0, 0.08), (41 * epoch, 0.8), (82 * epoch, 0.08), (9309, 0.008)])
    assert policy.momentum == Piecewise.through([(0, 0.95), (41 * epoch, 0.85), (82 * epoch, 0.95)])
    ends = [0, 41 * epoch, 82 * epoch, 9309, 9310, FAR]
    assert values(policy.lr, ends) == [0.08, 0.8, 0.08, 0.008, 0.008, 0.008]
    assert values(policy.momentum, ends) == [0.95, 0.85, 0.95, 0.95, 0.95, 0.95]
    assert values(policy.lr, [2009, 6027]) == close([0.44, 0.44])
    assert values(policy.momentum, [2009, 6027]) == close([0.9, 0.9])
    assert policy(2009) == {"lr": pytest.approx(0.44), "momentum": pytest.approx(0.9)}


def test_defaults() -> None:
    """A tenth to begin with, a hundredth of that at last, a tenth of the steps for the last stretch."""
    policy = one_cycle(1.0, 20)
    assert policy.lr == Piecewise.through([(0, 0.1), (9, 1.0), (18, 0.1), (19, 0.001)])
    assert policy.momentum == Piecewise.through([(0, 0.95), (9, 0.85), (18, 0.95)])
    assert policy.weight_decay is None
    assert policy == one_cycle(
        1.0,
        20,
        min_lr=0.1,
        final_lr=0.001,
        tail=0.1,
        peak=0.5,
        momentum=(0.95, 0.85),
        shape="linear",
        form="paper",
    )


C = [(1 - math.cos(math.pi * k / 4)) / 2 for k in range(5)]  # half a cosine wave in quarters
FORMS: dict[tuple[str, str], tuple[list[float], list[float]]] = {
    ("paper", "linear"): (
        [0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2, 0.15, 0.1, 0.1, 0.1],
        [0.9, 0.875, 0.85, 0.825, 0.8, 0.825, 0.85, 0.875, 0.9, 0.9, 0.9, 0.9, 0.9],
    ),
    ("logs", "linear"): (
        [0.2, 0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25, 0.1, 0.1, 0.1, 0.1, 0.1],
        [0.9, 0.875, 0.85, 0.825, 0.8, 0.825, 0.85, 0.875, 0.9, 0.9, 0.9, 0.9, 0.9],
    ),
    ("to_zero", "linear"): (
        [0.2, 0.36, 0.52, 0.68, 0.84, 1.0, 0.82, 0.64, 0.46, 0.28, 0.1, 0.1, 0.1],
        [0.9, 0.88, 0.86, 0.84, 0.82, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.9, 0.9],
    ),
    ("paper", "cosine"): (
        [0.2 + 0.8 * c for c in C] + [1 - 0.8 * c for c in C[1:]] + [0.15, 0.1, 0.1, 0.1],
        [0.9 - 0.1 * c for c in C] + [0.8 + 0.1 * c for c in C[1:]] + [0.9, 0.9, 0.9, 0.9],
    ),
    ("logs", "cosine"): (
        [0.2 + 0.8 * c for c in C] + [1 - c for c in C[1:4]] + [0.1, 0.1, 0.1, 0.1, 0.1],
        [0.9 - 0.1 * c for c in C] + [0.8 + 0.1 * c for c in C[1:]] + [0.9, 0.9, 0.9, 0.9],
    ),
    ("to_zero", "cosine"): (
        [0.6 - 0.4 * math.cos(math.pi * k / 5) for k in range(5)]
        + [0.55 + 0.45 * math.cos(math.pi * k / 5) for k in range(6)]
        + [0.1, 0.1],
        [0.85 + 0.05 * math.cos(math.pi * k / 5) for k in range(11)] + [0.9, 0.9],
    ),
}


@pytest.mark.parametrize(("form", "shape"), FORMS)
def test_three_forms_in_two_shapes(form: Any, shape: Any) -> None:
    """Eleven updates: a cycle of eight and a last stretch, or one cycle alone; then two more steps."""
    policy = one_cycle(
        1.0,
        11,
        min_lr=0.2,
        final_lr=0.1,
        tail=0 if form == "to_zero" else 3 / 11,
        momentum=(0.9, 0.8),
        shape=shape,
        form=form,
    )
    lr, momentum = FORMS[form, shape]
    assert values(policy.lr, 13) == close(lr)
    assert values(policy.momentum, 13) == close(momentum)
    np.testing.assert_allclose(policy(np.arange(13))["lr"], lr, rtol=1e-14)
    np.testing.assert_allclose(policy(np.arange(13))["momentum"], momentum, rtol=1e-14)
    assert values(policy.lr, [10, 11, FAR]) == [0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("form", "final"), [("paper", 0.1 / 100), ("logs", 0.1 / 1000), ("to_zero", 0.1 / 100)]
)
def test_default_final_rate(form: Any, final: float) -> None:
    lr = one_cycle(1.0, 100, form=form).lr
    assert values(lr, [0, 99, 100, FAR]) == [0.1, final, final, final]


def test_to_zero_takes_no_notice_of_tail() -> None:
    assert one_cycle(1.0, 50, form="to_zero", tail=0.4) == one_cycle(1.0, 50, form="to_zero", tail=0)


def test_logs_without_a_last_stretch_comes_down_to_the_final_rate() -> None:
    lr = one_cycle(1.0, 5, min_lr=0.5, final_lr=0.25, tail=0, form="logs").lr
    assert values(lr, 6) == [0.5, 0.75, 1.0, 0.625, 0.25, 0.25]


def test_paper_without_a_last_stretch_comes_down_to_the_lowest_rate() -> None:
    lr = one_cycle(1.0, 5, min_lr=0.5, final_lr=0.25, tail=0).lr
    assert values(lr, 6) == [0.5, 0.75, 1.0, 0.75, 0.5, 0.5]


@pytest.mark.parametrize(
    ("steps", "form", "lr"),
    [
        (1, "paper", [0.5, 0.5]),
        (1, "logs", [0.25, 0.25]),
        (1, "to_zero", [0.25, 0.25]),
        (2, "paper", [1.0, 0.5, 0.5]),
        (2, "logs", [1.0, 0.25, 0.25]),
        (2, "to_zero", [1.0, 0.25, 0.25]),
        (3, "paper", [0.5, 1.0, 0.5, 0.5]),
        (3, "logs", [0.5, 1.0, 0.25, 0.25]),
        (3, "to_zero", [0.5, 1.0, 0.25, 0.25]),
        (4, "paper", [0.5, 0.75, 1.0, 0.5, 0.5]),
    ],
)
def test_one_two_three_updates(steps: int, form: Any, lr: list[float]) -> None:
    policy = one_cycle(1.0, steps, min_lr=0.5, final_lr=0.25, form=form)
    assert values(policy.lr, steps + 1) == lr
    assert policy.total_steps == steps
    momentum = {0.25: 0.95, 0.5: 0.95, 0.75: 0.9, 1.0: 0.85}
    assert values(policy.momentum, steps + 1) == close([momentum[rate] for rate in lr])


def test_a_last_stretch_of_one_update() -> None:
    assert values(one_cycle(1.0, 2, min_lr=0.5, final_lr=0.25, tail=0.5).lr, 3) == [1.0, 0.25, 0.25]
    assert values(one_cycle(1.0, 3, min_lr=0.5, final_lr=0.25, tail=0.3).lr, 4) == [0.5, 1.0, 0.25, 0.25]


def test_the_last_stretch_leaves_a_step_to_the_peak() -> None:
    assert values(one_cycle(1.0, 3, min_lr=0.5, final_lr=0.25, tail=0.99).lr, 4) == [1.0, 0.5, 0.25, 0.25]
    assert values(one_cycle(1.0, 1, min_lr=0.5, final_lr=0.25, tail=0.99).lr, 2) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("peak", "lr"),
    [
        (0, [1.0, 0.875, 0.75, 0.625, 0.5]),
        (0.25, [0.5, 1.0, 5 / 6, 2 / 3, 0.5]),
        (0.75, [0.5, 2 / 3, 5 / 6, 1.0, 0.5]),
        # the peak is a step of the cycle, so that max_lr is always reached
        (0.99, [0.5, 2 / 3, 5 / 6, 1.0, 0.5]),
        (1, [0.5, 2 / 3, 5 / 6, 1.0, 0.5]),
    ],
)
def test_peak_places_the_maximum(peak: float, lr: list[float]) -> None:
    assert values(one_cycle(1.0, 5, min_lr=0.5, tail=0, peak=peak).lr, 5) == close(lr)
    assert values(one_cycle(1.0, 2, min_lr=0.5, tail=0, peak=peak).lr, 2) == [1.0, 0.5]


def test_momentum_may_be_one_constant_or_left_alone() -> None:
    assert one_cycle(1.0, 10, momentum=0.9).momentum == constant(0.9)
    assert one_cycle(1.0, 10, momentum=(0.9, 0.9)).momentum == constant(0.9)
    assert one_cycle(1.0, 10, momentum=0).momentum == constant(0)
    assert one_cycle(1.0, 10, momentum=[0.9, 0]).momentum == Piecewise.through(  # type: ignore[arg-type]
        [(0, 0.9), (4, 0), (9, 0.9)]
    )
    untouched = one_cycle(1.0, 10, momentum=None)
    assert untouched.momentum is None
    assert untouched(0) == {"lr": 0.1}


class Number:
    """What a suggestion is to a policy: something with a float in it."""

    def __float__(self) -> float:
        return 0.8


def test_numbers_of_any_library_are_taken() -> None:
    assert one_cycle(Number(), np.int64(40)) == one_cycle(0.8, 40)
    assert one_cycle(np.float32(0.5), 40, tail=np.float32(0.25)) == one_cycle(0.5, 40, tail=0.25)  # type: ignore[arg-type]
    assert type(one_cycle(0.8, np.int64(40)).total_steps) is int
    assert cyclical(0, Number(), np.int32(4)) == cyclical(0.0, 0.8, 4)


@settings(deadline=None)
@given(
    steps=st.integers(3, 400),
    tail=st.floats(0, 0.9),
    peak=st.floats(0, 1),
    low=st.floats(0, 0.9),
    final=st.floats(0, 0.9),
    shape=st.sampled_from(["linear", "cosine"]),
    form=st.sampled_from(["paper", "logs", "to_zero"]),
)
def test_one_cycle_has_one_peak_and_the_ends_it_names(
    steps: int, tail: float, peak: float, low: float, final: float, shape: Any, form: Any
) -> None:
    policy = one_cycle(
        1.0,
        steps,
        min_lr=low,
        final_lr=final,
        tail=tail,
        peak=peak,
        shape=shape,
        form=form,
        momentum=(0.9, 0.5),
    )
    at = np.arange(steps + 2)
    assert policy.lr is not None
    assert policy.momentum is not None
    lr, momentum = policy.lr(at), policy.momentum(at)
    top = int(lr.argmax())
    assert lr[top] == 1
    assert momentum[top] == 0.5
    assert lr[0] == (low if top else 1)
    stretch = form != "to_zero" and round(tail * steps) > 0
    assert lr[steps - 1] == (low if form == "paper" and not stretch else final)
    assert lr[steps - 1] == lr[steps] == lr[steps + 1]
    assert momentum[steps - 1] == 0.9
    assert (np.diff(lr[: top + 1]) >= 0).all()
    assert lr.min() >= 0
    assert momentum.min() >= 0.5 - 1e-15
    assert momentum.max() <= 0.9 + 1e-15
    assert Policy.from_json(policy.to_json()) == policy


RANGE = "must lie between 0 and max_lr = 1, got"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps must be a whole number >= 1, got 0"),
        ({"total_steps": -3}, "total_steps must be a whole number >= 1, got -3"),
        ({"total_steps": 10.0}, "total_steps must be a whole number >= 1, got 10.0"),
        ({"total_steps": "10"}, "total_steps must be a whole number >= 1, got '10'"),
        ({"total_steps": True}, "total_steps must be a whole number >= 1, got True"),
        ({"total_steps": None}, "total_steps must be a whole number >= 1, got None"),
        ({"max_lr": 0}, "max_lr must be > 0, got 0"),
        ({"max_lr": -0.1}, "max_lr must be > 0, got -0.1"),
        ({"max_lr": math.nan}, "max_lr must be a finite number, got nan"),
        ({"max_lr": math.inf}, "max_lr must be a finite number, got inf"),
        ({"max_lr": "fast"}, "max_lr must be a number, got 'fast'"),
        ({"max_lr": [0.1, 0.2]}, "max_lr must be a number, got [0.1, 0.2]"),
        ({"max_lr": 10**400}, "max_lr must be a number, got 100000000000000000...0000000000000000000"),
        ({"min_lr": -0.1}, f"min_lr {RANGE} -0.1"),
        ({"min_lr": 2}, f"min_lr {RANGE} 2"),
        ({"min_lr": ()}, "min_lr must be a number, got ()"),
        ({"final_lr": -0.1}, f"final_lr {RANGE} -0.1"),
        ({"final_lr": 1.5}, f"final_lr {RANGE} 1.5"),
        ({"final_lr": math.nan}, "final_lr must be a finite number, got nan"),
        ({"tail": -0.1}, "tail must be a share in [0, 1], got -0.1"),
        ({"tail": 1.5}, "tail must be a share in [0, 1], got 1.5"),
        ({"tail": 1}, "tail must be < 1, got 1: it leaves no step for the cycle"),
        ({"tail": None}, "tail must be a number, got None"),
        ({"peak": -0.1}, "peak must be a share in [0, 1], got -0.1"),
        ({"peak": 4000}, "peak must be a share in [0, 1], got 4000"),
        ({"peak": math.nan}, "peak must be a finite number, got nan"),
        ({"shape": "exponential"}, "shape must be 'linear' or 'cosine', got 'exponential'"),
        ({"form": "article"}, "form must be 'paper', 'logs' or 'to_zero', got 'article'"),
        ({"momentum": (0.9,)}, "momentum must be (high, low), one constant or None, got (0.9,)"),
        (
            {"momentum": (0.85, 0.95)},
            "momentum must be (high, low) with 0 <= low <= high < 1, got (0.85, 0.95)",
        ),
        ({"momentum": 1}, "momentum must be (high, low) with 0 <= low <= high < 1, got 1"),
        (
            {"momentum": (0.9, -0.1)},
            "momentum must be (high, low) with 0 <= low <= high < 1, got (0.9, -0.1)",
        ),
        ({"momentum": "high"}, "momentum must be a number, got 'high'"),
        ({"momentum": (0.9, math.nan)}, "momentum must be a finite number, got nan"),
    ],
)
def test_one_cycle_refuses(arguments: dict[str, Any], message: str) -> None:
    with refuses(message):
        one_cycle(**{"max_lr": 1.0, "total_steps": 100, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_lr": 0, "final_lr": 0},
        {"min_lr": 1, "final_lr": 1},
        {"tail": 0.999, "peak": 0},
        {"momentum": (0.9999, 0)},
    ],
)
def test_one_cycle_takes_the_ends_of_each_range(arguments: dict[str, Any]) -> None:
    assert one_cycle(1.0, 100, **arguments).total_steps == 100


# 1cycle in the terms of others -------------------------------------------------------------------


def test_from_torch_linear_vector() -> None:
    """Torch's own test vector: max 25, start 1, final 0.5, ten steps, momentum 22 to 1 over 100."""
    policy = one_cycle.from_torch(
        25,
        10,
        pct_start=0.3,
        anneal_strategy="linear",
        base_momentum=0.01,
        max_momentum=0.22,
        div_factor=25,
        final_div_factor=2,
    )
    assert values(policy.lr, 10) == close([1, 13, 25, 21.5, 18, 14.5, 11, 7.5, 4, 0.5])
    momentum = [0.22, 0.115, 0.01, 0.04, 0.07, 0.1, 0.13, 0.16, 0.19, 0.22]
    assert values(policy.momentum, 10) == close(momentum)
    assert policy.total_steps == 10


def test_from_torch_three_phases_vector() -> None:
    policy = one_cycle.from_torch(
        25,
        10,
        pct_start=0.4,
        anneal_strategy="linear",
        base_momentum=0.01,
        max_momentum=0.22,
        div_factor=25,
        final_div_factor=4,
        three_phase=True,
    )
    assert values(policy.lr, 11) == close([1, 9, 17, 25, 17, 9, 1, 0.75, 0.5, 0.25, 0.25])
    momentum = [0.22, 0.15, 0.08, 0.01, 0.08, 0.15, 0.22, 0.22, 0.22, 0.22, 0.22]
    assert values(policy.momentum, 11) == close(momentum)


def test_from_torch_cosine_vector() -> None:
    policy = one_cycle.from_torch(25, 10, base_momentum=0.01, max_momentum=0.22, final_div_factor=2)
    down = [(1 + math.cos(math.pi * k / 7)) / 2 for k in range(1, 8)]
    assert values(policy.lr, 10) == close([1, 13, 25] + [0.5 + 24.5 * c for c in down])
    assert values(policy.momentum, 10) == close([0.22, 0.115, 0.01] + [0.22 - 0.21 * c for c in down])


def test_from_torch_defaults() -> None:
    policy = one_cycle.from_torch(1.0, 1000)
    assert policy.lr == Piecewise.through([(0, 0.04), (299, 1.0), (999, 0.04 / 1e4)], "cosine")
    assert policy.momentum == Piecewise.through([(0, 0.95), (299, 0.85), (999, 0.95)], "cosine")
    assert one_cycle.from_torch(1.0, epochs=10, steps_per_epoch=100) == policy
    assert one_cycle.from_torch(1.0, 1000, cycle_momentum=False).momentum is None


def test_from_torch_without_room_for_a_phase() -> None:
    # no warm-up: the start is the peak
    for share in (0, 0.05, 0.1):
        policy = one_cycle.from_torch(1.0, 10, pct_start=share, anneal_strategy="linear", final_div_factor=1)
        assert values(policy.lr, 11) == close([1 - 0.96 * k / 9 for k in range(10)] + [0.04])
        assert values(policy.momentum, [0, 9]) == [0.85, 0.95]
    # nothing but warm-up
    policy = one_cycle.from_torch(1.0, 5, pct_start=1, anneal_strategy="linear")
    assert values(policy.lr, 7) == close([0.04, 0.28, 0.52, 0.76, 1.0, 1.0, 1.0])
    assert values(policy.momentum, 7) == close([0.95, 0.925, 0.9, 0.875, 0.85, 0.85, 0.85])
    # three phases, the first two without a step
    policy = one_cycle.from_torch(1.0, 10, pct_start=0.1, three_phase=True)
    assert values(policy.lr, [0, 9]) == [0.04, 0.04 / 1e4]
    # three phases, half the steps each way
    policy = one_cycle.from_torch(1.0, 10, pct_start=0.5, three_phase=True)
    assert values(policy.lr, [0, 4, 8, 9]) == [0.04, 1.0, 0.04, 0.04 / 1e4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": None}, "total_steps must be given, or both epochs and steps_per_epoch"),
        (
            {"total_steps": None, "epochs": 3},
            "total_steps must be given, or both epochs and steps_per_epoch",
        ),
        (
            {"total_steps": None, "steps_per_epoch": 3},
            "total_steps must be given, or both epochs and steps_per_epoch",
        ),
        (
            {"total_steps": None, "epochs": -2, "steps_per_epoch": -3},
            "epochs must be a whole number >= 1, got -2",
        ),
        (
            {"total_steps": None, "epochs": 2, "steps_per_epoch": 0.5},
            "steps_per_epoch must be a whole number >= 1, got 0.5",
        ),
        ({"total_steps": 0}, "total_steps must be a whole number >= 1, got 0"),
        ({"max_lr": 0}, "max_lr must be > 0, got 0"),
        ({"pct_start": 1.1}, "pct_start must be a share in [0, 1], got 1.1"),
        ({"pct_start": "a"}, "pct_start must be a number, got 'a'"),
        ({"anneal_strategy": "cosine"}, "anneal_strategy must be 'cos' or 'linear', got 'cosine'"),
        ({"div_factor": 0}, "div_factor must be > 0, got 0"),
        ({"final_div_factor": -1}, "final_div_factor must be > 0, got -1"),
        ({"max_momentum": None}, "max_momentum must be a number, got None"),
        ({"base_momentum": math.nan}, "base_momentum must be a finite number, got nan"),
        (
            {"three_phase": True, "pct_start": 0.6},
            "pct_start must be <= 0.5 with three_phase, got 0.6: "
            "two phases of that share leave no room for the last one",
        ),
    ],
)
def test_from_torch_refuses(arguments: dict[str, Any], message: str) -> None:
    with refuses(message):
        one_cycle.from_torch(**{"max_lr": 1.0, "total_steps": 100, **arguments})


def test_from_fastai_defaults() -> None:
    policy = one_cycle.from_fastai(1.0, 100)
    assert policy.total_steps == 100
    assert policy.lr == Piecewise.through([(0, 0.04), (25, 1.0), (100, 1e-5)], "cosine")
    assert policy.momentum == Piecewise.through([(0, 0.95), (25, 0.85), (100, 0.95)], "cosine")
    assert one_cycle.from_fastai(1.0, 100, moms=None).momentum is None
    assert one_cycle.from_fastai(1.0, 100, moms=[0.9, 0.8, 0.7]).momentum == Piecewise.through(  # type: ignore[arg-type]
        [(0, 0.9), (25, 0.8), (100, 0.7)], "cosine"
    )


def fastai(place: float, pct: float, start: float, middle: float, end: float) -> float:
    """Fastai's `combined_cos`, written out: two half cosine waves that meet at `pct`."""
    a, b, part = (start, middle, place / pct) if place < pct else (middle, end, (place - pct) / (1 - pct))
    return a + (1 + math.cos(math.pi * (1 - part))) * (b - a) / 2


@settings(deadline=None)
@given(
    steps=st.integers(1, 300),
    pct=st.floats(0.01, 0.99),
    top=st.floats(1e-6, 10),
    div=st.floats(1, 100),
    final=st.floats(1, 1e6),
    moms=st.tuples(*[st.floats(0.5, 0.99)] * 3),
)
def test_from_fastai_is_combined_cos(
    steps: int, pct: float, top: float, div: float, final: float, moms: tuple[float, float, float]
) -> None:
    policy = one_cycle.from_fastai(top, steps, div, final, pct, moms)
    places = [step / steps for step in range(steps + 1)]
    lr = [fastai(place, pct, top / div, top, top / final) for place in places]
    # fastai's own formula cancels near the end: its error is an ulp of the peak, not of the value
    assert values(policy.lr, steps + 1) == pytest.approx(lr, rel=1e-9, abs=1e-14 * top)
    momentum = [fastai(place, pct, *moms) for place in places]
    assert values(policy.momentum, steps + 1) == pytest.approx(momentum, rel=1e-9)


def test_from_fastai_with_all_the_steps_in_one_phase() -> None:
    """There fastai's formula divides zero by zero at the end."""
    assert values(one_cycle.from_fastai(1.0, 4, pct_start=1).lr, [0, 4]) == [0.04, 1e-5]
    assert values(one_cycle.from_fastai(1.0, 4, pct_start=0).lr, [0, 4]) == [1.0, 1e-5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr_max": 0}, "lr_max must be > 0, got 0"),
        ({"total_steps": 2.5}, "total_steps must be a whole number >= 1, got 2.5"),
        ({"div": 0}, "div must be > 0, got 0"),
        ({"div_final": math.inf}, "div_final must be a finite number, got inf"),
        ({"pct_start": -1}, "pct_start must be a share in [0, 1], got -1"),
        ({"moms": (0.9, 0.8)}, "moms must be (start, middle, end) or None, got (0.9, 0.8)"),
        ({"moms": 0.9}, "moms must be (start, middle, end) or None, got 0.9"),
        ({"moms": (0.9, None, 0.9)}, "moms must be a number, got None"),
    ],
)
def test_from_fastai_refuses(arguments: dict[str, Any], message: str) -> None:
    with refuses(message):
        one_cycle.from_fastai(**{"lr_max": 1.0, "total_steps": 100, **arguments})


def test_optax_linear_vector_in_pieces() -> None:
    """Linear vector of optax's own tests: ten steps, up for 3, down for 4, then to start / 100."""
    lr = Piecewise.through([(0, 100), (3, 1000), (7, 100), (10, 1)])
    assert values(lr, 12) == close([100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1])


def test_optax_cosine_vector_in_pieces() -> None:
    """Cosine vector of optax's own tests; the last step is one later than torch's."""
    lr = Piecewise.through([(0, 100), (2, 1000), (5, 1)], "cosine")
    assert values(lr, 7) == close([100, 550, 1000, 750.25, 250.75, 1, 1])


# Cyclical ----------------------------------------------------------------------------------------


def test_cyclical_is_a_cycle() -> None:
    policy = cyclical(0.1, 3, 5000)
    assert policy == Policy(None, Cycle(0.1, 3.0, 5000, 5000))
    assert policy.total_steps is None
    assert policy.momentum is None


@pytest.mark.parametrize(
    ("arguments", "lr"),
    [
        ({}, [1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3, 4, 5]),
        ({"mode": "triangular2"}, [1, 2, 3, 4, 5, 4, 3, 2, 1, 1.5, 2, 2.5, 3]),
        ({"mode": "exp_range"}, [1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3, 4, 5]),
        ({"mode": "exp_range", "gamma": 0.5}, [1, 1.5, 1.5, 1.375, 1.25, 1.09375, 1.03125, 1.0078125, 1]),
        ({"mode": lambda cycle: 3 - cycle}, [1, 3, 5, 7, 9, 7, 5, 3, 1, 2, 3, 4, 5, 4, 3, 2, 1, 1, 1]),
        ({"step_size_down": 2}, [1, 2, 3, 4, 5, 3, 1, 2, 3, 4, 5, 3, 1]),
        ({"total_steps": 3}, [1, 2, 3, 3, 3, 3]),
        ({"total_steps": 1}, [1, 1, 1]),
        ({"total_steps": 6, "mode": "triangular2"}, [1, 2, 3, 4, 5, 4, 4, 4]),
    ],
)
def test_cyclical_values(arguments: dict[str, Any], lr: list[float]) -> None:
    policy = cyclical(1, 5, 4, **arguments)
    assert values(policy.lr, len(lr)) == close(lr)
    assert policy.total_steps == arguments.get("total_steps")
    assert values(policy.lr, [24 * FAR]) == [lr[-1] if "total_steps" in arguments else 1]


def test_cyclical_momentum_goes_the_other_way_at_the_same_amplitude() -> None:
    arguments: dict[str, Any] = {"mode": "triangular2", "step_size_down": 1, "total_steps": 6}
    policy = cyclical(0, 4, 2, momentum=(0.9, 0.5), **arguments)
    assert values(policy.lr, 8) == close([0, 2, 4, 0, 1, 2, 2, 2])
    assert values(policy.momentum, 8) == close([0.9, 0.7, 0.5, 0.9, 0.8, 0.7, 0.7, 0.7])
    decay = cyclical(0, 4, 2, mode="exp_range", gamma=0.5, momentum=(0.9, 0.5))
    assert values(decay.momentum, 4) == close([0.9, 0.8, 0.8, 0.875])
    assert values(cyclical(0, 4, 2, momentum=0.9).momentum, 6) == [0.9] * 6
    assert policy(1) == {"lr": 2, "momentum": pytest.approx(0.7)}


@pytest.mark.parametrize(
    ("arguments", "lr"),
    [
        ({}, [1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3]),
        ({"mode": "triangular2"}, [1, 2, 3, 4, 5, 4, 3, 2, 1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1, 1.25, 1.5]),
        (
            {"mode": "exp_range", "gamma": 0.9},
            [1 + 4 * x * 0.9**i for i, x in enumerate([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0.25])],
        ),
        ({"step_size_down": 6}, [1, 2, 3, 4, 5, 13 / 3, 11 / 3, 3, 7 / 3, 5 / 3, 1]),
        (
            {"mode": "triangular2", "step_size_up": 2, "step_size_down": 6},
            [1, 3, 5, 13 / 3, 11 / 3, 3, 7 / 3, 5 / 3, 1, 2, 3, 8 / 3],
        ),
        ({"scale_fn": lambda cycle: 2 / cycle}, [1, 3, 5, 7, 9, 7, 5, 3, 1, 2, 3]),
        ({"scale_fn": lambda step: step, "scale_mode": "iterations"}, [1, 2, 5, 10, 17, 16]),
        # an own function goes before the mode, which goes before the scale mode
        ({"scale_fn": lambda _: 1, "mode": "triangular2"}, [1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3]),
        (
            {"mode": "triangular2", "scale_mode": "iterations"},
            [1, 2, 3, 4, 5, 4, 3, 2, 1, 1.5, 2, 2.5, 3],
        ),
    ],
)
def test_cyclical_from_torch_vectors(arguments: dict[str, Any], lr: list[float]) -> None:
    policy = cyclical.from_torch(1, 5, **{"step_size_up": 4, **arguments})
    assert values(policy.lr, len(lr)) == close(lr)
    momentum = [0.9 - (rate - 1) / 40 for rate in lr]
    assert values(policy.momentum, len(lr)) == pytest.approx(momentum, rel=1e-14)
    assert policy.total_steps is None


def test_cyclical_from_torch_defaults() -> None:
    assert cyclical.from_torch(0.1, 1) == cyclical(0.1, 1, 2000, momentum=(0.9, 0.8))
    assert cyclical.from_torch(0.1, 1, cycle_momentum=False) == cyclical(0.1, 1, 2000)
    assert cyclical.from_torch(0.1, 1, 3, base_momentum=0.2, max_momentum=0.3) == cyclical(
        0.1, 1, 3, momentum=(0.3, 0.2)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_lr": -1}, "base_lr must lie between 0 and max_lr = 1, got -1"),
        ({"base_lr": 1.5}, "base_lr must lie between 0 and max_lr = 1, got 1.5"),
        ({"base_lr": None}, "base_lr must be a number, got None"),
        ({"max_lr": 0}, "max_lr must be > 0, got 0"),
        ({"step_size": 0}, "step_size must be a whole number >= 1, got 0"),
        ({"step_size": 1.5}, "step_size must be a whole number >= 1, got 1.5"),
        ({"step_size_down": 0}, "step_size_down must be a whole number >= 1, got 0"),
        ({"total_steps": 0}, "total_steps must be a whole number >= 1, got 0"),
        ({"gamma": 1.1}, "gamma must lie in (0, 1], got 1.1"),
        (
            {"mode": "sine"},
            "mode must be one of triangular, triangular2, exp_range or a callable, got 'sine'",
        ),
        ({"momentum": (0.8, 0.9)}, "momentum must be (high, low) with 0 <= low <= high < 1, got (0.8, 0.9)"),
    ],
)
def test_cyclical_refuses(arguments: dict[str, Any], message: str) -> None:
    with refuses(message):
        cyclical(**{"base_lr": 0, "max_lr": 1, "step_size": 4, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_size_up": 0}, "step_size_up must be a whole number >= 1, got 0"),
        ({"step_size_down": -1}, "step_size_down must be a whole number >= 1, got -1"),
        ({"scale_mode": "steps"}, "scale_mode must be 'cycle' or 'iterations', got 'steps'"),
    ],
)
def test_cyclical_from_torch_refuses(arguments: dict[str, Any], message: str) -> None:
    with refuses(message):
        cyclical.from_torch(0, 1, **arguments)


def test_cyclical_takes_the_ends_of_each_range() -> None:
    assert values(cyclical(0, 1, 1).lr, 3) == [0, 1, 0]
    assert values(cyclical(1, 1, 1).lr, 3) == [1, 1, 1]


# Policy ------------------------------------------------------------------------------------------


def test_a_policy_schedules_any_hyper_parameter() -> None:
    policy = Policy(10, momentum=constant(0.9), weight_decay=linear(0, 1, 10))
    assert policy(5) == {"momentum": 0.9, "weight_decay": 0.5}
    many = policy(np.array([[0, 5], [10, 20]]))
    assert list(many) == ["momentum", "weight_decay"]
    assert many["weight_decay"].tolist() == [[0, 0.5], [1, 1]]
    assert many["momentum"].tolist() == [[0.9, 0.9], [0.9, 0.9]]


def test_a_function_of_ones_own_will_do() -> None:
    policy = Policy(lr=lambda step: 1 / (1 + step))
    assert policy(3) == {"lr": 0.25}
    assert policy.total_steps is None


def test_policies_are_equal_by_value_and_frozen() -> None:
    assert len({one_cycle(1, 10), one_cycle(1.0, 10), one_cycle(1, 11), cyclical(0, 1, 4)}) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one_cycle(1, 10), "lr", None)  # noqa: B010


def test_a_length_of_any_library_becomes_an_int() -> None:
    policy = Policy(np.int64(5), constant(1))  # type: ignore[arg-type]
    assert type(policy.total_steps) is int
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("total", [0, -1, 2.5, "9", False])
def test_a_policy_refuses_what_is_no_length(total: Any) -> None:
    with refuses(f"total_steps must be a whole number >= 1, got {total!r}"):
        Policy(total, constant(1))


def test_a_policy_refuses_to_have_no_schedule() -> None:
    with refuses("a policy needs a schedule for one of lr, momentum, weight_decay"):
        Policy(10)


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
def test_a_policy_refuses_what_is_no_schedule(name: str) -> None:
    message = (
        f"{name} must be a schedule, a callable from step to value, got 0.5: "
        "for a fixed value use constant(0.5)"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Policy(10, **{name: 0.5})  # type: ignore[arg-type]


def test_plot_hands_itself_over(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def plot_policy(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "axes"

    monkeypatch.setitem(sys.modules, "onecycle.plot", SimpleNamespace(plot_policy=plot_policy))
    policy = one_cycle(1, 10)
    assert policy.plot() == "axes"  # type: ignore[comparison-overlap]
    policy.plot("lr.png", ax="ax")  # type: ignore[arg-type]
    assert calls == [((policy, None), {"ax": None}), ((policy, "lr.png"), {"ax": "ax"})]


# JSON --------------------------------------------------------------------------------------------

POLICIES = [
    one_cycle(0.8, 9310),
    one_cycle(0.8, 95, momentum=None, shape="cosine", form="logs"),
    one_cycle(0.8, 95, momentum=0.9, form="to_zero"),
    one_cycle.from_torch(0.1, 50),
    one_cycle.from_fastai(0.1, 50),
    cyclical(0.1, 3, 5000, momentum=(0.9, 0.8), step_size_down=7, total_steps=100),
    cyclical(0, 3, 5, mode="exp_range", gamma=0.999),
    Policy(None, weight_decay=cosine(1e-4, 1e-5, 20)),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_json_round_trips_are_equal(policy: Policy) -> None:
    again = Policy.from_json(policy.to_json())
    assert again == policy
    assert hash(again) == hash(policy)
    assert again(17) == policy(17)


def test_json_is_plain_to_read() -> None:
    assert json.loads(one_cycle(1.0, 3, momentum=None, tail=0).to_json()) == {
        "format": "onecycle.policy",
        "version": 1,
        "total_steps": 3,
        "lr": {
            "kind": "piecewise",
            "steps": [0, 1, 2],
            "values": [0.1, 1.0, 0.1],
            "shapes": ["linear", "linear"],
        },
    }
    assert json.loads(cyclical(0, 1, 2).to_json())["total_steps"] is None


def test_json_cannot_hold_functions() -> None:
    with refuses(f"momentum is {math.sqrt!r}, which JSON cannot hold: use this library's schedules"):
        Policy(10, constant(1), momentum=math.sqrt).to_json()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^mode .* is a callable, which JSON cannot hold: "):
        cyclical(0, 1, 2, mode=lambda _: 1).to_json()


def document(**changes: Any) -> str:
    whole = json.loads(one_cycle(1.0, 3, momentum=0.9).to_json()) | changes
    return json.dumps({name: value for name, value in whole.items() if value != "missing"})


NO_POLICY = 'this JSON is no policy: its "format" is not "onecycle.policy"'
NEWER = "a file of a newer version needs a newer onecycle"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("3", NO_POLICY),
        ("[]", NO_POLICY),
        ("{}", NO_POLICY),
        (document(format="onecycle.curve"), NO_POLICY),
        (document(format=["onecycle.policy"]), NO_POLICY),
        (document(version=2), f"policy version must be 1, got 2: {NEWER}"),
        (document(version="missing"), f"policy version must be 1, got None: {NEWER}"),
        (document(version={}), f"policy version must be 1, got {{}}: {NEWER}"),
        (
            document(total_steps="missing"),
            "a policy needs the field total_steps: null where it is without end",
        ),
        (document(dampening=1, steps=3), "a policy has no field 'dampening'"),
        (document(lr="missing", momentum="missing"), "a policy needs a schedule for one of "),
        (document(total_steps=0), "total_steps must be a whole number >= 1, got 0"),
        (document(total_steps=True), "total_steps must be a whole number >= 1, got True"),
        (document(total_steps="3"), "total_steps must be a whole number >= 1, got '3'"),
        (document(total_steps=[3]), "total_steps must be a whole number >= 1, got [3]"),
        (document(lr=None), "lr: a schedule is described by a JSON object, got None"),
        (document(lr=0.1), "lr: a schedule is described by a JSON object, got 0.1"),
        (document(momentum={}), "momentum: schedule kind must be one of piecewise, cycle, got None"),
        (
            document(weight_decay={"kind": "piecewise", "steps": [0], "values": ["a"]}),
            "weight_decay: each of values must be a finite number, got 'a'",
        ),
    ],
)
def test_malformed_json_is_refused_in_a_sentence(text: str, message: str) -> None:
    if message.endswith("one of "):
        message += "lr, momentum, weight_decay"
    with refuses(message):
        Policy.from_json(text)


def test_deep_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^this is no JSON: "):
        Policy.from_json("[" * 100_000)


junk: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([[{}]])
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["format", "version", "total_steps", "lr", "momentum", "weight_decay", "x"]),
        junk | st.dictionaries(st.sampled_from(["kind", "steps", "values", "start", "up"]), junk),
    )
)
def test_garbage_gives_a_policy_or_a_value_error(changes: dict[str, Any]) -> None:
    try:
        policy = Policy.from_json(document(**changes))
    except ValueError as error:
        assert str(error)  # noqa: PT017
    else:
        assert policy(3)


def test_a_step_too_large_for_a_float_holds_the_last_values() -> None:
    policy = one_cycle(0.1, 100)
    assert policy(10**400) == policy(99)


def test_torchs_step_sizes_may_be_floats() -> None:
    assert cyclical.from_torch(0.1, 0.3, 2000.0) == cyclical.from_torch(0.1, 0.3)
    assert cyclical.from_torch(0.1, 0.3, 2.5, np.float32(1.5)).lr(2.5) == 0.3
    for unfit, message in (
        (0.0, "step_size_up must be > 0, got 0"),
        (math.inf, "step_size_up must be a finite number, got inf"),
        ("10", "step_size_up must be a whole number >= 1, got '10'"),
        (0, "step_size_up must be a whole number >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            cyclical.from_torch(0.1, 0.3, unfit)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("gamma must lie in (0, 1], got 1.01")):
        cyclical.from_torch(0.1, 0.3, mode="exp_range", gamma=1.01)
