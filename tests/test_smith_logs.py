"""Smith's own training logs: the rate of each logged step is the policy's, to the digits he printed."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from onecycle import Piecewise, Schedule, cyclical, linear, one_cycle

LOGS = Path(__file__).parents[2] / "shared" / "data" / "smith"


def logged_rates(name: str) -> list[tuple[int, float]]:
    path = LOGS / name
    if not path.exists():
        pytest.skip(f"Smith's log {name} is not beside this repository")
    with path.open(newline="") as file:
        return [(int(row["iteration"]), float(row["lr"])) for row in csv.DictReader(file) if row["lr"]]


def differences(schedule: Schedule | None, log: list[tuple[int, float]], top: float) -> list[str]:
    """Steps whose logged rate is not the schedule's.

    Caffe computed in single precision and printed six significant digits: half of the last digit, and
    one rounding of a number as large as the peak, is what the log cannot tell apart.
    """
    assert schedule is not None
    wrong = []
    for step, rate in log:
        last_digit = 10 ** (math.floor(math.log10(rate)) - 5) if rate else 0.0
        if abs(schedule(step) - rate) > last_digit / 2 + 2**-24 * top:
            wrong.append(f"step {step}: logged {rate}, computed {schedule(step)}")
    return wrong


def test_1cycle_of_resnet56_in_95_epochs() -> None:
    """0.08 to 0.8 in 4003 steps, down to 0 in as many more, then 0.08 / 1000."""
    log = logged_rates("resnet56-cifar10-1cycle-bs512-95epochs.csv")
    policy = one_cycle(0.8, 9277, tail=1271 / 9277, momentum=0.95, form="logs")
    assert policy.lr == Piecewise.through([(0, 0.08), (4003, 0.8), (8006, 0.0), (8006, 8e-5)])
    assert len(log) == 47
    assert differences(policy.lr, log, 0.8) == []
    # the digits tell the peak's step from its neighbours
    for total, tail in ((9277, 1273), (9277, 1269)):
        assert differences(one_cycle(0.8, total, tail=tail / total, form="logs").lr, log, 0.8)


def test_super_convergence_cycle_of_resnet56() -> None:
    log = logged_rates("resnet56-cifar10-superconvergence-clr0.1-3-10k.csv")
    assert len(log) == 100
    assert differences(cyclical(0.1, 3.0, 5000).lr, log, 3.0) == []


@pytest.mark.parametrize(
    ("name", "top", "steps"),
    [
        ("resnet56-cifar10-lr-range-0-2-80k.csv", 2, 80_000),
        ("resnet56-cifar10-lr-range-0-3-20k.csv", 3, 20_000),
        ("resnet56-cifar10-lr-range-0-3-5k.csv", 3, 5_000),
    ],
)
def test_linear_range_tests_of_resnet56(name: str, top: float, steps: int) -> None:
    log = logged_rates(name)
    assert len(log) >= 50
    assert differences(linear(0, top, steps), log, top) == []
