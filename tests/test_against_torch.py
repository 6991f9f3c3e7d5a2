"""Our schedules against the installed torch's, where torch is right; and where it is not, ours alone.

Tolerances. Values agree to 1e-9 of their own size, plus 4e-16 of the peak: torch computes
`end + (start - end) / 2 * (1 + cos)`, whose rounding is an ulp of the peak however small the value, and
a final rate may be a millionth of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onecycle import Schedule, cyclical, one_cycle

torch = pytest.importorskip("torch")
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR  # noqa: E402

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.5),
    "adam": lambda: torch.optim.Adam([torch.zeros(1)], lr=0.1),
}


def run(scheduler: Any, steps: int) -> tuple[list[float], list[float]]:
    """Rate and momentum of the first `steps` updates under a torch scheduler."""
    group = scheduler.optimizer.param_groups[0]
    rates, momenta = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer.step() came before scheduler.step()
        for step in range(steps):
            rates.append(float(group["lr"]))
            momenta.append(float(group["betas"][0] if "betas" in group else group["momentum"]))
            if step < steps - 1:
                scheduler.step()
    return rates, momenta


def agree(schedule: Schedule | None, expected: list[float], size: float) -> None:
    assert schedule is not None
    ours = [schedule(step) for step in range(len(expected))]
    assert ours == pytest.approx(expected, rel=1e-9, abs=4e-16 * size)


rates = st.floats(1e-8, 1e2)
momenta = st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)).map(sorted)
optimizers = st.sampled_from(sorted(OPTIMIZERS))


@settings(max_examples=150, deadline=None)
@given(
    optimizer=optimizers,
    max_lr=rates,
    steps=st.integers(2, 80),
    pct_start=st.floats(0, 1),
    anneal_strategy=st.sampled_from(["cos", "linear"]),
    cycle_momentum=st.booleans(),
    pair=momenta,
    div_factor=st.floats(0.5, 1e3),
    final_div_factor=st.floats(0.5, 1e6),
    three_phase=st.booleans(),
    per_epoch=st.none() | st.integers(1, 5),
)
def test_one_cycle_lr(
    optimizer: str,
    max_lr: float,
    steps: int,
    pct_start: float,
    pair: list[float],
    three_phase: bool,
    per_epoch: int | None,
    **rest: Any,
) -> None:
    if three_phase:
        pct_start /= 2
    length: dict[str, Any] = {"total_steps": steps}
    if per_epoch is not None:
        length, steps = {"epochs": steps, "steps_per_epoch": per_epoch}, steps * per_epoch
    # where a phase has no steps torch fails: the tests further down
    assume(1.001 < pct_start * steps <= steps - 0.001)
    arguments = {
        **length,
        **rest,
        "pct_start": pct_start,
        "base_momentum": pair[0],
        "max_momentum": pair[1],
        "three_phase": three_phase,
    }
    theirs = OneCycleLR(OPTIMIZERS[optimizer](), max_lr, **arguments)
    ours = one_cycle.from_torch(max_lr, **arguments)
    assert ours.total_steps == theirs.total_steps == steps
    lr, momentum = run(theirs, steps)
    agree(ours.lr, lr, max(max_lr, lr[0]))
    if rest["cycle_momentum"]:
        agree(ours.momentum, momentum, 1.0)
    else:
        assert ours.momentum is None


@settings(max_examples=150, deadline=None)
@given(
    optimizer=optimizers,
    max_lr=rates,
    base=st.floats(0, 1),
    step_size_up=st.integers(1, 30),
    step_size_down=st.none() | st.integers(1, 30),
    mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    gamma=st.floats(0.9, 1),
    scale_fn=st.sampled_from([None, lambda x: 1 / (1 + x), lambda x: 0.99**x, lambda x: math.cos(x)]),
    scale_mode=st.sampled_from(["cycle", "iterations"]),
    cycle_momentum=st.booleans(),
    pair=momenta,
    steps=st.integers(1, 150),
)
def test_cyclic_lr(
    optimizer: str, max_lr: float, base: float, pair: list[float], steps: int, **rest: Any
) -> None:
    arguments = {"base_lr": base * max_lr, "max_lr": max_lr, **rest}
    arguments |= {"base_momentum": pair[0], "max_momentum": pair[1]}
    ours = cyclical.from_torch(**arguments)
    lr, momentum = run(CyclicLR(OPTIMIZERS[optimizer](), **arguments), steps)
    # torch takes the place in the cycle from 1 + step / cycle - floor(…), which costs it some digits
    lost = 4 * steps
    agree(ours.lr, lr, lost * max_lr)
    if rest["cycle_momentum"]:
        agree(ours.momentum, momentum, lost)
    else:
        assert ours.momentum is None


def test_defaults_are_torchs() -> None:
    lr, momentum = run(OneCycleLR(OPTIMIZERS["sgd"](), 0.3, 200), 200)
    ours = one_cycle.from_torch(0.3, 200)
    agree(ours.lr, lr, 0.3)
    agree(ours.momentum, momentum, 1)
    lr, momentum = run(CyclicLR(OPTIMIZERS["sgd"](), 0.1, 0.3), 200)
    ours = cyclical.from_torch(0.1, 0.3)
    agree(ours.lr, lr, 200)
    agree(ours.momentum, momentum, 200)


def test_step_sizes_that_are_no_whole_numbers() -> None:
    sizes: dict[str, Any] = {"step_size_up": 7.5, "step_size_down": 4.0}
    lr, momentum = run(CyclicLR(OPTIMIZERS["sgd"](), 0.1, 0.3, **sizes), 100)
    ours = cyclical.from_torch(0.1, 0.3, **sizes)
    agree(ours.lr, lr, 200)
    agree(ours.momentum, momentum, 200)


# What torch's OneCycleLR gets wrong. Only our side is asserted: torch may mend its own. ----------


def finite(schedule: Schedule | None, steps: int) -> list[float]:
    assert schedule is not None
    values = [schedule(step) for step in range(steps)]
    assert all(math.isfinite(value) for value in values)
    return values


@pytest.mark.parametrize(("steps", "pct_start"), [(10, 0.1), (4, 0.25), (100, 0.01), (1, 1.0), (2, 0.5)])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_a_warm_up_of_one_step(steps: int, pct_start: float, anneal_strategy: Any) -> None:
    """torch: ZeroDivisionError at construction wherever pct_start * total_steps is 1."""
    policy = one_cycle.from_torch(1.0, steps, pct_start=pct_start, anneal_strategy=anneal_strategy)
    lr = finite(policy.lr, steps + 2)
    momentum = finite(policy.momentum, steps + 2)
    assert lr[0] == 1.0
    assert momentum[0] == 0.85
    assert lr == sorted(lr, reverse=True)
    if steps > 1:
        assert lr[steps - 1] == pytest.approx(4e-6, rel=1e-15)
        assert momentum[steps - 1] == 0.95


@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_nothing_but_warm_up(steps: int) -> None:
    """torch: with pct_start 1, ZeroDivisionError at the last scheduler.step() of the usual loop."""
    policy = one_cycle.from_torch(1.0, steps, pct_start=1.0)
    lr = finite(policy.lr, steps + 2)
    assert lr == sorted(lr)
    assert lr[steps - 1] == lr[steps] == lr[steps + 1] == 1.0
    assert finite(policy.momentum, steps + 2)[-1] == 0.85


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_no_rebound_past_the_end(anneal_strategy: Any, three_phase: bool) -> None:
    """torch: .0495, 4e-06, .0495: one call past the end, as in the usual loop, climbs again; two raise."""
    policy = one_cycle.from_torch(1.0, 10, anneal_strategy=anneal_strategy, three_phase=three_phase)
    assert policy.lr is not None
    last = policy.lr(9)
    assert last == pytest.approx(4e-6, rel=1e-15)
    assert [policy.lr(step) for step in (10, 11, 20, 10**12)] == [last] * 4


@pytest.mark.parametrize(
    ("steps", "pct_start"), [(5, 0.0), (1, 0.0), (2, 0.0), (1, 0.3), (2, 0.3), (10, 0.05)]
)
def test_no_warm_up_starts_at_the_peak(steps: int, pct_start: float) -> None:
    """torch: .90 of the peak for five steps, .81 for two, the lowest rate for one."""
    policy = one_cycle.from_torch(0.5, steps, pct_start=pct_start)
    lr = finite(policy.lr, steps + 1)
    assert lr[0] == 0.5
    assert lr == sorted(lr, reverse=True)
    if steps > 1:
        assert lr[steps - 1] == pytest.approx(2e-6, rel=1e-15)


def test_three_phases_reach_the_final_rate_or_are_refused() -> None:
    """torch: with pct_start .6 of ten steps it ends at .13 and says nothing."""
    with pytest.raises(ValueError, match=r"^pct_start must be <= 0\.5 with three_phase, got 0\.6: "):
        one_cycle.from_torch(1.0, 10, pct_start=0.6, three_phase=True)
    for pct_start in (0.0, 0.05, 0.1, 0.25, 0.5):
        for steps in (2, 3, 10, 11):
            lr = finite(one_cycle.from_torch(1.0, steps, pct_start=pct_start, three_phase=True).lr, steps)
            assert lr[-1] == pytest.approx(4e-6, rel=1e-15)
