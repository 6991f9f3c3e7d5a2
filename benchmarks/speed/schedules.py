"""A step of a schedule, against torch's schedulers, and a million values against loops."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
)

import onecycle as oc
from benchmarks.speed.files import installed
from benchmarks.speed.timing import Make, in_turn, rows
from onecycle.torch import Scheduler

LENGTH = 10**6  # of every schedule; a run is its beginning
Build = Callable[[Optimizer], LRScheduler]

# By what is compared: ours, and then others.
CASES: dict[str, tuple[Build, dict[str, Build]]] = {
    "as they come": (
        lambda o: Scheduler(o, oc.one_cycle(0.1, LENGTH)),
        {
            "OneCycleLR": lambda o: OneCycleLR(o, 0.1, LENGTH),
            "CyclicLR": lambda o: CyclicLR(o, 0.01, 0.1, cycle_momentum="momentum" in o.param_groups[0]),
            "CosineAnnealingLR": lambda o: CosineAnnealingLR(o, LENGTH),
            "LinearLR": lambda o: LinearLR(o, total_iters=LENGTH),
            "LambdaLR": lambda o: LambdaLR(o, lambda _: 1.0),
        },
    ),
    "linear": (
        lambda o: Scheduler(o, oc.one_cycle(0.1, LENGTH)),
        {"OneCycleLR": lambda o: OneCycleLR(o, 0.1, LENGTH, anneal_strategy="linear")},
    ),
    "cosine": (
        lambda o: Scheduler(o, oc.one_cycle(0.1, LENGTH, shape="cosine")),
        {"OneCycleLR": lambda o: OneCycleLR(o, 0.1, LENGTH)},
    ),
    "rate alone": (
        lambda o: Scheduler(o, oc.one_cycle(0.1, LENGTH, momentum=None)),
        {"OneCycleLR": lambda o: OneCycleLR(o, 0.1, LENGTH, cycle_momentum=False)},
    ),
    "triangular": (
        lambda o: Scheduler(o, oc.cyclical(0.01, 0.1, 2000)),
        {"CyclicLR": lambda o: CyclicLR(o, 0.01, 0.1, 2000, cycle_momentum=False)},
    ),
}


class Floor:
    """The least that a scheduler in Python can do: count, and write two entries of each group."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.steps = optimizer, 0
        self.key = "betas" if "betas" in optimizer.param_groups[0] else "momentum"
        self.second = (0.9, 0.999) if self.key == "betas" else 0.9

    def step(self) -> None:
        """Count one more."""
        self.steps += 1
        rate, key, second = 0.1, self.key, self.second
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group[key] = second


def optimizer(kind: str, groups: int, *, ratios: bool = False, tensor: bool = False) -> Optimizer:
    """SGD with momentum, or Adam, of so many groups of one parameter."""
    given = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1 * (0.9**number if ratios else 1)}
        for number in range(groups)
    ]
    if tensor:
        return torch.optim.Adam([given[0]["params"][0]], torch.tensor(0.1), foreach=False)  # type: ignore[index]
    return torch.optim.SGD(given, momentum=0.9) if kind == "SGD" else torch.optim.Adam(given)


def stepping(build: Callable[[Optimizer], Any], make: Callable[[], Optimizer], steps: int) -> Make:
    """So many steps of a scheduler that is built anew, the first ones among them."""

    def ready() -> Callable[[], object]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = build(make()).step
            step()  # where torch warns that no update came before

        def run() -> None:
            for _ in range(steps):
                step()

        return run

    return ready


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """Rows of every case, for one group and more; `scale` shortens the runs."""
    found: list[dict[str, Any]] = []
    for kind in ("SGD", "Adam"):
        for groups, steps in ((1, 10_000), (100 if scale >= 1 else 2, 5_000)):
            for case, (ours, others) in CASES.items():
                found += _steps(
                    {"case": case, "optimizer": kind, "groups": groups},
                    {"ours": ours, **others} | ({"floor": Floor} if case == "as they come" else {}),
                    lambda kind=kind, groups=groups: optimizer(kind, groups),  # type: ignore[misc]
                    max(int(steps * scale), 1),
                    repeats,
                )
    ours, others = CASES["as they come"]
    one_cycles = {"ours": ours, "OneCycleLR": others["OneCycleLR"]}
    rates = {"ours": ours, "OneCycleLR": lambda o: OneCycleLR(o, [g["lr"] for g in o.param_groups], LENGTH)}
    found += _steps(
        {"case": "a ratio each", "optimizer": "SGD", "groups": 100},
        rates,
        lambda: optimizer("SGD", 100, ratios=True),
        max(int(5_000 * scale), 1),
        repeats,
    )
    found += _steps(
        {"case": "tensor rate", "optimizer": "Adam", "groups": 1},
        one_cycles,
        lambda: optimizer("Adam", 1, tensor=True),
        max(int(5_000 * scale), 1),
        repeats,
    )
    return found + _values(max(int(10**6 * scale), 1), repeats)


def _steps(
    case: dict[str, Any],
    builds: dict[str, Any],
    make: Callable[[], Optimizer],
    steps: int,
    repeats: int,
) -> list[dict[str, Any]]:
    # Torch's are slower by tens: a tenth of the steps gives pairs of like lengths.
    lengths = {name: steps if name in ("ours", "floor") else max(steps // 10, 1) for name in builds}
    times = in_turn({name: stepping(build, make, lengths[name]) for name, build in builds.items()}, repeats)
    per_step = {name: [seconds / lengths[name] for seconds in times[name]] for name in builds}
    return rows(case, per_step, "ours")


def _values(count: int, repeats: int) -> list[dict[str, Any]]:
    """A million rates at once, against others' formulas in a loop."""
    policy = oc.one_cycle(0.1, count, shape="cosine")
    loop = max(count // 100, 1)

    def torchs() -> Callable[[], object]:
        return stepping(lambda o: OneCycleLR(o, 0.1, count + 2, cycle_momentum=False), _one, loop)()

    makes: dict[str, Make] = {
        "ours": lambda: lambda: policy.lr(np.arange(count)),
        "ours, one by one": lambda: lambda: [policy.lr(step) for step in range(loop)],
        "OneCycleLR": torchs,
    }
    if installed("fastai"):
        from fastai.callback.schedule import combined_cos

        schedule = combined_cos(0.25, 0.004, 0.1, 1e-6)
        makes["fastai"] = lambda: lambda: [schedule(step / count) for step in range(loop)]
    times = in_turn(makes, repeats)
    per_value = {name: [s / (count if name == "ours" else loop) for s in times[name]] for name in makes}
    return rows({"case": f"{count} values", "optimizer": "", "groups": 0}, per_value, "ours")


def _one() -> Optimizer:
    return optimizer("SGD", 1)
