"""The scheduler: one integer of state, any order of resuming, any optimizer, and torch's tools around it."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import pickle
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from onecycle import constant, cyclical, exponential, linear, one_cycle
from onecycle._policy import Policy
from onecycle.torch import Scheduler

POLICY = one_cycle(0.8, 20)


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(3))


def sgd(*rates: float, **options: Any) -> torch.optim.SGD:
    """One group a rate."""
    groups = [{"params": [parameter()], "lr": rate} for rate in rates or (0.1,)]
    return torch.optim.SGD(groups, **{"lr": 0.1, "momentum": 0.9, **options})


def update(optimizer: torch.optim.Optimizer, scheduler: Any = None, steps: int = 1) -> None:
    for _ in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.full_like(p, 0.1)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def values(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    """Rate and momentum of each group."""
    return [
        (float(group["lr"]), float(group["momentum"] if "momentum" in group else group["betas"][0]))
        for group in optimizer.param_groups
    ]


def at(step: int, policy: Any = POLICY) -> tuple[float, float]:
    return policy(step)["lr"], policy(step)["momentum"]


# The values ------------------------------------------------------------------------------------------


def test_it_is_a_torch_scheduler() -> None:
    assert isinstance(Scheduler(sgd(), POLICY), LRScheduler)


@pytest.mark.parametrize(
    "policy", [POLICY, one_cycle(0.8, 20, shape="cosine"), cyclical(0.1, 0.5, 4, momentum=(0.9, 0.8))]
)
def test_each_update_has_the_policys_values(policy: Policy) -> None:
    optimizer = sgd()
    scheduler = Scheduler(optimizer, policy)
    for step in range(30):
        assert values(optimizer) == [at(step, policy)]
        assert scheduler.get_last_lr() == [policy(step)["lr"]]
        assert (scheduler.last_epoch, scheduler._step_count) == (step, step + 1)
        update(optimizer, scheduler)


def test_past_the_end_the_last_values_hold() -> None:
    """Defect 3: torch's OneCycleLR rebounds at the step after the last one, then raises."""
    optimizer = sgd()
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, 20)
    assert values(optimizer) == [at(19)]
    update(optimizer, scheduler, 5)
    assert values(optimizer) == [at(19)]


def test_a_function_is_a_policy() -> None:
    optimizer = sgd()
    scheduler = Scheduler(optimizer, lambda step: {"lr": 1 / (step + 1)})
    update(optimizer, scheduler, 3)
    assert values(optimizer) == [(0.25, 0.9)]


def test_step_to_a_count() -> None:
    optimizer = sgd()
    scheduler = Scheduler(optimizer, POLICY)
    scheduler.step(7)
    assert values(optimizer) == [at(7)]
    assert scheduler.last_epoch == 7


def test_getters_change_nothing() -> None:
    """Defect 13: torch's `get_lr` writes the momentum."""
    optimizer = sgd()
    scheduler = Scheduler(optimizer, POLICY)
    optimizer.param_groups[0]["momentum"] = 0.3
    assert scheduler.get_lr() == scheduler.get_last_lr() == [POLICY(0)["lr"]]
    assert optimizer.param_groups[0]["momentum"] == 0.3


# State and resuming ----------------------------------------------------------------------------------


def test_the_state_is_one_integer() -> None:
    """Defect 14: torch's is all of `__dict__`, the configuration mixed with the position."""
    optimizer = sgd()
    scheduler = Scheduler(optimizer, POLICY)
    assert scheduler.state_dict() == {"last_epoch": 0}
    update(optimizer, scheduler, 3)
    assert scheduler.state_dict() == {"last_epoch": 3}


def test_the_state_loads_with_weights_only() -> None:
    file = io.BytesIO()
    torch.save(Scheduler(sgd(), POLICY, start_step=5).state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == {"last_epoch": 5}


BUILD, LOAD_OPTIMIZER, LOAD = "build", "load the optimizer", "load"
ORDERS = [
    order
    for order in itertools.permutations((BUILD, LOAD_OPTIMIZER, LOAD))
    if order.index(BUILD) < order.index(LOAD)
]


def make(kind: str) -> torch.optim.Optimizer:
    """An optimizer of two groups at rates of ten to one."""
    form = torch.tensor if kind == "tensor" else float
    groups = [{"params": [parameter()], "lr": form(rate)} for rate in (0.1, 0.01)]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    return torch.optim.Adam(groups, foreach=False)


def resumed(kind: str, order: tuple[str, ...], saved: Any, policy: Any) -> tuple[Any, Scheduler]:
    optimizer, scheduler = make(kind), None
    for action in order:
        if action == LOAD_OPTIMIZER:
            optimizer.load_state_dict(saved[0])
        elif action == BUILD:
            scheduler = Scheduler(
                optimizer, policy, start_step=0 if LOAD in order else saved[1]["last_epoch"]
            )
        else:
            assert scheduler is not None
            scheduler.load_state_dict(saved[1])
    assert scheduler is not None
    return optimizer, scheduler


@pytest.mark.parametrize("kind", ["sgd", "adam", "tensor"])
@pytest.mark.parametrize("stop", [0, 7, 19, 25])
@pytest.mark.parametrize("order", [*ORDERS, (BUILD, LOAD_OPTIMIZER), (LOAD_OPTIMIZER, BUILD)], ids=", ".join)
def test_resuming_in_any_order(order: tuple[str, ...], stop: int, kind: str) -> None:
    """Defect 8: torch's scheduler, loaded, leaves the optimizer alone; built last, it overwrites the rate."""
    optimizer = make(kind)
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, stop)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    other, again = resumed(kind, order, saved, POLICY)
    for _ in range(4):
        assert values(other) == values(optimizer)
        assert again.last_epoch == scheduler.last_epoch
        assert values(other)[1][0] == pytest.approx(values(other)[0][0] / 10)
        update(optimizer, scheduler)
        update(other, again)


@pytest.mark.parametrize("order", [*ORDERS, (BUILD, LOAD_OPTIMIZER), (LOAD_OPTIMIZER, BUILD)], ids=", ".join)
def test_another_peak_or_length_holds_at_once(order: tuple[str, ...]) -> None:
    """Defect 7: torch puts the old peak and the old length back on loading."""
    optimizer = make("sgd")
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, 7)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    longer = one_cycle(0.02, 200, momentum=(0.8, 0.7))
    other, again = resumed("sgd", order, saved, longer)
    assert values(other)[0] == at(7, longer)
    update(other, again, 100)
    assert values(other)[0] == at(107, longer)


def test_a_schedule_that_ended_at_zero_is_resumed_with_its_ratios() -> None:
    policy = one_cycle(0.8, 20, final_lr=0)
    optimizer = make("sgd")
    scheduler = Scheduler(optimizer, policy)
    update(optimizer, scheduler, 20)
    assert [rate for rate, _ in values(optimizer)] == [0, 0]
    other = make("sgd")
    other.load_state_dict(optimizer.state_dict())
    Scheduler(other, one_cycle(0.8, 50), start_step=20)
    assert values(other)[1][0] == pytest.approx(values(other)[0][0] / 10)


def test_a_weight_decay_that_is_at_zero_is_resumed_with_its_ratios() -> None:
    def build() -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": [parameter()]},
            {"params": [parameter()], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, weight_decay=0.1)

    policy = Policy(10, weight_decay=linear(0, 1, 10))
    optimizer = build()
    saved = Scheduler(optimizer, policy).optimizer.state_dict()
    other = build()
    other.load_state_dict(saved)
    Scheduler(other, policy, start_step=5)
    assert [group["weight_decay"] for group in other.param_groups] == [policy(5)["weight_decay"], 0]


@pytest.mark.parametrize(
    "build",
    [
        lambda o: OneCycleLR(o, 0.5, 50),
        lambda o: CyclicLR(o, 0.1, 0.5),
        lambda o: StepLR(o, 3),
        lambda o: CosineAnnealingLR(o, 10),
        lambda o: ConstantLR(o),
        lambda o: SequentialLR(o, [LinearLR(o), StepLR(o, 3)], [4]),
    ],
    ids=["OneCycleLR", "CyclicLR", "StepLR", "CosineAnnealingLR", "ConstantLR", "SequentialLR"],
)
def test_the_state_of_any_torch_scheduler_loads(build: Callable[[Any], Any]) -> None:
    """Defect 10: torch's CyclicLR takes entries out of the dict it is given, which then loads no more."""
    old = sgd()
    theirs = build(old)
    update(old, theirs, 6)
    state = theirs.state_dict()
    before = dict(state)
    for _ in range(2):
        optimizer = sgd()
        Scheduler(optimizer, POLICY).load_state_dict(state)
        assert values(optimizer) == [at(6)]
    assert state == before


@pytest.mark.parametrize("state", [{}, {"last_epoch": -1}, {"last_epoch": "6"}, {"step": 6}])
def test_a_state_that_tells_no_count(state: dict[str, Any]) -> None:
    text = f"state_dict must hold 'last_epoch', an int >= 0, got {state!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Scheduler(sgd(), POLICY).load_state_dict(state)


# Groups ----------------------------------------------------------------------------------------------


def test_groups_keep_their_ratios() -> None:
    """Defect 6: torch keeps peak and start in the groups, and gives each the same unless told."""
    optimizer = sgd(0.1, 0.01, 0.3)
    scheduler = Scheduler(optimizer, POLICY)
    for step in range(20):
        rate = POLICY(step)["lr"]
        assert scheduler.get_last_lr() == pytest.approx([rate, rate / 10, rate * 3])
        update(optimizer, scheduler)
    assert scheduler.base_lrs == [0.1, 0.01, 0.3]
    assert not {"max_lr", "min_lr", "max_momentum", "base_momentum"} & set(optimizer.param_groups[0])


def test_rates_that_were_changed_by_hand_since_hold() -> None:
    """What an earlier schedule left in the groups is no more true then."""
    optimizer = sgd(0.0, 0.1)
    Scheduler(optimizer, POLICY)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] / 2
    scheduler = Scheduler(optimizer, POLICY, start_step=5)
    rate = POLICY(5)["lr"]
    assert scheduler.get_last_lr() == pytest.approx([rate, 2 * rate])


def test_groups_that_are_frozen_stay_so() -> None:
    optimizer = sgd(0.0, 0.1, 0.05)
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, 10)
    rate = POLICY(10)["lr"]
    assert scheduler.get_last_lr() == pytest.approx([0, rate, rate / 2])


def test_groups_may_be_added_later() -> None:
    """Defect 9: torch's OneCycleLR raises KeyError, its CyclicLR ValueError."""
    optimizer = sgd(0.1)
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, 3)
    optimizer.add_param_group({"params": [parameter()], "lr": 0.02})
    optimizer.add_param_group({"params": [parameter()]})
    update(optimizer, scheduler)
    rate, momentum = at(4)
    assert scheduler.get_last_lr() == pytest.approx([rate, rate / 5, rate])
    assert [m for _, m in values(optimizer)] == [momentum] * 3
    scheduler.load_state_dict({"last_epoch": 9})
    assert scheduler.get_last_lr()[1] == pytest.approx(POLICY(9)["lr"] / 5)


def test_weight_decay_keeps_groups_without_it() -> None:
    groups = [
        {"params": [parameter()], "weight_decay": 0.1},
        {"params": [parameter()], "weight_decay": 0.0},
        {"params": [parameter()], "weight_decay": 0.05},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    policy = Policy(10, lr=constant(0.1), weight_decay=linear(0.2, 0.02, 10))
    scheduler = Scheduler(optimizer, policy)
    update(optimizer, scheduler, 5)
    decay = policy(5)["weight_decay"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([decay, 0, decay / 2])


# Optimizers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax"])
def test_momentum_is_the_first_of_betas(name: str) -> None:
    optimizer = getattr(torch.optim, name)([parameter()], lr=0.1, betas=(0.7, 0.99))
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, 5)
    assert optimizer.param_groups[0]["betas"] == (POLICY(5)["momentum"], 0.99)
    assert "momentum" not in optimizer.param_groups[0]


@pytest.mark.parametrize("name", ["Adagrad", "Rprop", "Adadelta", "ASGD", "Adafactor"])
def test_optimizers_with_no_momentum_are_left_alone(name: str) -> None:
    """Defect 11: torch's schedulers raise by default for these."""
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    optimizer = getattr(torch.optim, name)([parameter()], lr=0.1)
    keys = set(optimizer.param_groups[0])
    update(optimizer, Scheduler(optimizer, POLICY), 5)
    assert set(optimizer.param_groups[0]) - keys == {"initial_lr"}
    assert optimizer.param_groups[0]["lr"] == POLICY(5)["lr"]


def test_a_policy_without_momentum_leaves_it_alone() -> None:
    """Defect 12: torch's OneCycleLR replaces the user's momentum unless told otherwise."""
    optimizer = sgd(momentum=0.5)
    update(optimizer, Scheduler(optimizer, one_cycle(0.8, 20, momentum=None)), 3)
    assert values(optimizer)[0][1] == 0.5


def test_betas_that_only_the_groups_have() -> None:
    """As in optimi's optimizers, whose `defaults` hold none."""

    class Theirs(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__([{"params": list(params), "betas": (0.9, 0.99), "lr": 0.1}], {})

    optimizer = Theirs([parameter()])
    Scheduler(optimizer, POLICY, start_step=5)
    assert values(optimizer) == [at(5)]


def test_momentum_in_some_groups_and_betas_in_others() -> None:
    """As in Muon with AdamW for what is no matrix."""

    class Mixed(torch.optim.Optimizer):
        def __init__(self) -> None:
            groups = [
                {"params": [parameter()], "lr": 0.02, "momentum": 0.95},
                {"params": [parameter()], "lr": 0.002, "betas": (0.9, 0.95), "momentum_decay": 4},
                {"params": [parameter()], "lr": 0.002},
            ]
            super().__init__(groups, {})

    optimizer = Mixed()
    Scheduler(optimizer, POLICY, start_step=5)
    first, second, third = optimizer.param_groups
    rate, momentum = at(5)
    assert (first["momentum"], second["betas"], second["momentum_decay"]) == (momentum, (momentum, 0.95), 4)
    assert not {"momentum", "betas"} & set(third)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([rate, rate / 10, rate / 10])


class Wrapper(torch.optim.Optimizer):
    """Such as Accelerate's: an Optimizer by name that never ran its `__init__`, and so has no hooks."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    param_groups = property(lambda self: self.inner.param_groups)

    def load_state_dict(self, state_dict: Any) -> None:
        self.inner.load_state_dict(state_dict)


class Foreign:
    """No Optimizer at all, but with param groups."""

    def __init__(self) -> None:
        self.param_groups = [{"params": [], "lr": 0.1, "momentum": 0.0}]


def test_wrappers_without_hooks() -> None:
    optimizer = Wrapper(sgd())
    scheduler = Scheduler(optimizer, POLICY)
    scheduler.step()
    saved = optimizer.inner.state_dict()
    again = Wrapper(sgd())
    scheduler = Scheduler(again, POLICY, start_step=1)
    again.load_state_dict(saved)
    assert values(again) == [at(1)]
    scheduler.step()
    assert values(again) == [at(2)]


def test_optimizers_that_are_none_of_torchs() -> None:
    optimizer: Any = Foreign()
    Scheduler(optimizer, POLICY, start_step=3)
    assert values(optimizer) == [at(3)]


def test_rate_that_is_none_is_set() -> None:
    """As in Hugging Face's Adafactor, which is to find its own."""
    optimizer: Any = Foreign()
    optimizer.param_groups = [{"lr": None}, {"lr": None}]
    scheduler = Scheduler(optimizer, POLICY, start_step=3)
    assert scheduler.get_last_lr() == [POLICY(3)["lr"]] * 2


# Tensors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"foreach": False}, {"fused": True}], ids=["default", "for", "fused"]
)
def test_tensor_rates_and_betas_are_filled_in_place(options: dict[str, Any]) -> None:
    rate, beta = torch.tensor(0.1), torch.tensor(0.9)
    betas = (beta, torch.tensor(0.99)) if options.get("foreach") is False else (0.9, 0.99)
    optimizer = torch.optim.Adam([parameter()], lr=rate, betas=betas, **options)
    scheduler = Scheduler(optimizer, POLICY)
    update(optimizer, scheduler, 6)
    group = optimizer.param_groups[0]
    assert group["lr"] is rate
    assert float(rate) == pytest.approx(POLICY(6)["lr"])
    assert scheduler.get_last_lr() == [float(rate)]
    assert not isinstance(scheduler.get_last_lr()[0], Tensor)
    if isinstance(betas[0], Tensor):
        assert group["betas"][0] is beta
    assert float(group["betas"][0]) == pytest.approx(POLICY(6)["momentum"])


def test_capturable_foreach_with_a_tensor_rate() -> None:
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam([parameter()], lr=rate, foreach=True, capturable=True)
    scheduler = Scheduler(optimizer, POLICY, start_step=4)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(POLICY(5)["lr"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it compiles
def test_a_compiled_update_is_not_compiled_again() -> None:
    """By the backend that only traces: what would compile again, would be traced again."""
    optimizer = torch.optim.SGD([parameter()], lr=torch.tensor(0.1), foreach=False)
    scheduler = Scheduler(optimizer, one_cycle(0.8, 20, momentum=None))
    traced: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        traced.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(optimizer.step, backend=backend)
    p = optimizer.param_groups[0]["params"][0]
    p.grad = torch.ones(3)
    expected = p.detach().clone()
    for step in range(6):
        compiled()
        expected -= torch.tensor(POLICY(step)["lr"])
        scheduler.step()
    torch.compiler.reset()
    assert torch.allclose(p, expected)
    assert len(traced) == 1


# What is known ahead ---------------------------------------------------------------------------------


def rules(length: int) -> dict[str, Any]:
    """Policies of every kind, over more steps than are ever looked ahead at once."""
    return {
        "linear": one_cycle(0.8, length),
        "cosine": one_cycle(0.8, length, shape="cosine"),
        "logs": one_cycle(0.8, length, form="logs"),
        "rate alone": one_cycle(0.8, length, momentum=None),
        "torch": one_cycle.from_torch(0.8, length),
        "cyclical": cyclical(0, 0.5, 70, momentum=(0.9, 0.8)),
        "exp_range": cyclical(0.1, 0.5, 70, mode="exp_range", gamma=0.999),
        "exponential": Policy(length, lr=exponential(1e-5, 1, length)),
        "momentum alone": Policy(length, momentum=linear(0.9, 0.5, length)),
        "momentum from 0": Policy(length, lr=linear(1, 0, length), momentum=linear(0, 0.9, length)),
        "weight decay": Policy(length, lr=linear(1, 0, length), weight_decay=linear(0.2, 0.1, length)),
        "mine": lambda step: {"lr": 1 / (step + 1), "momentum": 0.5},
    }


BUILDS: dict[str, Callable[[], Any]] = {
    "one": sgd,
    "several": lambda: sgd(0.1, 0.1, 0.1),
    "ratios": lambda: sgd(0.1, 0.01, 0.0),
    "frozen first": lambda: sgd(0.0, 0.1),
    "Adam": lambda: torch.optim.Adam([parameter()], lr=0.1),
    "Adams": lambda: torch.optim.Adam([{"params": [parameter()]} for _ in range(3)], lr=0.1),
    "RMSprops": lambda: torch.optim.RMSprop([{"params": [parameter()]} for _ in range(3)], 0.1, momentum=0.9),
    "Adagrads": lambda: torch.optim.Adagrad([{"params": [parameter()]} for _ in range(2)], lr=0.1),
    "tensor": lambda: torch.optim.Adam([parameter()], lr=torch.tensor(0.1), foreach=False),
    "none": lambda: Foreign(),
}


def entries(optimizer: Any) -> list[dict[str, Any]]:
    """All that a scheduler may write, tensors as numbers."""
    return [
        {
            name: tuple(map(float, v)) if isinstance(v, tuple) else float(v)
            for name, v in group.items()
            if name in KEYS
        }
        for group in optimizer.param_groups
    ]


KEYS = ("lr", "momentum", "betas", "weight_decay")


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("name", rules(1))
def test_steps_taken_one_by_one_are_those_taken_at_once(name: str, build: Callable[[], Any]) -> None:
    """To the last bit, over the ends of everything that is worked out ahead."""
    policy = rules(700)[name]
    walked, placed = build(), build()
    scheduler, other = Scheduler(walked, policy), Scheduler(placed, policy)
    for step in range(1, 720):
        scheduler.step()
        other.step(step)
        assert entries(walked) == entries(placed)
    assert scheduler.last_epoch == 719


def count_writes(scheduler: Scheduler, steps: int) -> int:
    """How many of so many steps went the long way."""
    long_way: list[Any] = []
    write = scheduler._hypers.write

    def counted(given: Any) -> None:
        long_way.append(given)
        write(given)

    scheduler._hypers.write = counted  # type: ignore[assignment, method-assign]
    for _ in range(steps):
        scheduler.step()
    return len(long_way)


@pytest.mark.parametrize("build", ["one", "several", "ratios", "Adam", "Adams", "RMSprops", "Adagrads"])
def test_nearly_all_steps_are_known_ahead(build: str) -> None:
    assert count_writes(Scheduler(BUILDS[build](), one_cycle(0.8, 5000)), 5000) == 5


@pytest.mark.parametrize("build", ["tensor", "frozen first"])
def test_what_takes_more_than_an_entry_goes_the_long_way(build: str) -> None:
    assert count_writes(Scheduler(BUILDS[build](), POLICY), 100) == 100


def test_a_function_is_asked_for_each_step_as_it_comes() -> None:
    asked: list[float] = []

    def rate(step: Any) -> float:
        asked.append(step)
        return 0.1

    scheduler = Scheduler(sgd(), lambda step: {"lr": rate(step)})
    asked.clear()
    for _ in range(3):
        scheduler.step()
    assert asked == [1, 2, 3]
    scheduler.policy = Policy(9, lr=rate)  # type: ignore[arg-type] # arrays are of no interest
    scheduler.step()
    assert asked == [1, 2, 3, 4]
    scheduler.policy = cyclical(0.1, 0.2, 1, mode=rate)
    scheduler.step()
    assert asked == [1, 2, 3, 4, 3]  # the number of the cycle


def test_another_policy_holds_from_the_next_step_on() -> None:
    optimizer = sgd()
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    update(optimizer, scheduler, 10)
    scheduler.policy = cyclical(0.1, 0.3, 40)
    assert values(optimizer)[0][0] == one_cycle(0.8, 500)(10)["lr"]
    update(optimizer, scheduler)
    assert values(optimizer)[0][0] == scheduler.policy(11)["lr"]


@pytest.mark.parametrize("groups", [1, 3])
def test_values_that_others_write_are_written_over(groups: int) -> None:
    optimizer = sgd(*[0.1] * groups)
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    for step in range(1, 80):
        for group in optimizer.param_groups[:: 1 + step % 2]:
            group["lr"] = group["momentum"] = 0.123
        update(optimizer, scheduler)
        assert values(optimizer) == [at(step, scheduler.policy)] * groups


def test_a_second_beta_that_others_schedule_is_theirs() -> None:
    optimizer = BUILDS["Adams"]()
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    for step in range(1, 300):
        second = 1 - step**-0.8
        last = optimizer.param_groups[-1]
        last["betas"] = (last["betas"][0], second)
        scheduler.step()
        first = scheduler.policy(step)["momentum"]
        assert [group["betas"] for group in optimizer.param_groups] == [(first, 0.999)] * 2 + [
            (first, second)
        ]


@pytest.mark.parametrize("groups", [1, 3])
def test_rates_that_become_tensors_are_filled_from_then_on(groups: int) -> None:
    """As before a capture or a compilation."""
    optimizer = sgd(*[0.1] * groups)
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    update(optimizer, scheduler, 10)
    rates = [torch.tensor(group["lr"], dtype=torch.float64) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for step in range(11, 90):
        scheduler.step()
        assert [float(rate) for rate in rates] == [at(step, scheduler.policy)[0]] * groups
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


def test_a_momentum_that_was_switched_off_begins_again() -> None:
    """RMSprop makes its buffer at the first update, and only where there is momentum."""
    optimizer = BUILDS["RMSprops"]()
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    scheduler.step()
    optimizer.param_groups[1]["momentum"] = 0.0
    update(optimizer, scheduler, 3)
    assert values(optimizer) == [at(4, scheduler.policy)] * 3


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_that_are_added_or_exchanged_within_what_is_known(groups: int) -> None:
    optimizer = sgd(*[0.1] * groups)
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    update(optimizer, scheduler, 10)
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    update(optimizer, scheduler)
    assert values(optimizer) == [at(11, scheduler.policy)] * groups
    optimizer.param_groups[0] = dict(optimizer.param_groups[0])
    update(optimizer, scheduler)
    assert values(optimizer) == [at(12, scheduler.policy)] * groups
    optimizer.add_param_group({"params": [parameter()], "lr": 0.05, "momentum": 0.5})
    update(optimizer, scheduler)
    rate, momentum = at(13, scheduler.policy)
    assert values(optimizer) == [(rate, momentum)] * groups + [(rate / 2, momentum)]
    del optimizer.param_groups[-1]
    update(optimizer, scheduler, 100)
    assert values(optimizer) == [at(113, scheduler.policy)] * groups


@pytest.mark.parametrize("groups", [1, 2])
def test_an_entry_that_is_taken_out_is_written_anew(groups: int) -> None:
    optimizer = sgd(*[0.1] * groups)
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    update(optimizer, scheduler, 10)
    del optimizer.param_groups[0]["momentum"]
    scheduler.step()
    assert "momentum" not in optimizer.param_groups[0]
    assert scheduler.get_last_lr() == [at(11, scheduler.policy)[0]] * groups


def test_a_copy_within_what_is_known_goes_on() -> None:
    optimizer = sgd(0.1, 0.1)
    scheduler = Scheduler(optimizer, one_cycle(0.8, 500))
    update(optimizer, scheduler, 20)
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        for step in range(21, 100):
            twin.step()
            assert values(twin.optimizer) == [at(step, scheduler.policy)] * 2
    assert values(optimizer) == [at(20, scheduler.policy)] * 2


def test_calls_that_others_count() -> None:
    """As Accelerate does where a step was no update."""
    scheduler = Scheduler(sgd(), POLICY)
    scheduler.step()
    scheduler._step_count += 1
    scheduler.step()
    assert (scheduler.last_epoch, scheduler._step_count) == (2, 4)


# Beside other schedulers -----------------------------------------------------------------------------


def test_two_on_one_optimizer() -> None:
    """Defect 6: the peak of torch's first OneCycleLR becomes that of the second."""
    optimizer = sgd(0.1, 0.01)
    rates = Scheduler(optimizer, Policy(20, lr=POLICY.lr))
    momenta = Scheduler(optimizer, Policy(20, momentum=POLICY.momentum))
    for step in range(5):
        assert values(optimizer)[0] == at(step)
        assert values(optimizer)[1] == pytest.approx((at(step)[0] / 10, at(step)[1]))
        rates.step()
        momenta.step()
    assert momenta.base_lrs == rates.base_lrs == [0.1, 0.01]


def sequence(optimizer: torch.optim.Optimizer, policy: Any = POLICY) -> SequentialLR:
    """Four updates of warm-up, then the policy."""
    warm_up = LinearLR(optimizer, 0.25, total_iters=4)
    return SequentialLR(optimizer, [warm_up, Scheduler(optimizer, policy)], [4])


def test_after_a_warm_up() -> None:
    """Defect 12: the warm-up before torch's OneCycleLR runs at that one's first rate and momentum."""
    optimizer, plain = sgd(momentum=0.5), sgd(momentum=0.5)
    both, warm_up = sequence(optimizer), LinearLR(plain, 0.25, total_iters=4)
    for _ in range(4):
        assert values(optimizer) == values(plain)
        update(optimizer, both)
        update(plain, warm_up)
    for step in range(25):
        assert values(optimizer) == [at(step)]
        assert both.get_last_lr() == [at(step)[0]]
        update(optimizer, both)


def test_before_another() -> None:
    optimizer = sgd()
    first = Scheduler(optimizer, POLICY)
    both = SequentialLR(optimizer, [first, ExponentialLR(optimizer, 0.5)], [6])
    for step in range(6):
        assert values(optimizer) == [at(step)]
        update(optimizer, both)
    expected = [0.1 * 0.5**n for n in range(4)]
    for rate in expected:
        assert values(optimizer)[0][0] == pytest.approx(rate)
        update(optimizer, both)


def test_one_after_another() -> None:
    optimizer = sgd()
    second = one_cycle(0.3, 10, momentum=(0.7, 0.6))
    both = SequentialLR(optimizer, [Scheduler(optimizer, POLICY), Scheduler(optimizer, second)], [6])
    for step in range(6):
        assert values(optimizer) == [at(step)]
        update(optimizer, both)
    for step in range(6):
        assert values(optimizer) == [at(step, second)]
        update(optimizer, both)


@pytest.mark.parametrize("stop", [0, 2, 4, 7])
@pytest.mark.parametrize("first", [True, False])
def test_a_sequence_is_resumed(first: bool, stop: int) -> None:
    def build(optimizer: torch.optim.Optimizer) -> SequentialLR:
        if not first:
            return sequence(optimizer)
        return SequentialLR(optimizer, [Scheduler(optimizer, POLICY), CosineAnnealingLR(optimizer, 30)], [4])

    optimizer = sgd()
    both = build(optimizer)
    update(optimizer, both, stop)
    saved = copy.deepcopy((optimizer.state_dict(), both.state_dict()))
    for order in ("optimizer first", "optimizer last"):
        other = sgd()
        again = build(other)
        if order == "optimizer first":
            other.load_state_dict(copy.deepcopy(saved[0]))
        again.load_state_dict(copy.deepcopy(saved[1]))
        if order == "optimizer last":
            other.load_state_dict(copy.deepcopy(saved[0]))
        assert values(other) == values(optimizer)
        expected = sgd()
        uninterrupted = build(expected)
        update(expected, uninterrupted, stop)
        for _ in range(8):
            assert values(other) == values(expected)
            update(other, again)
            update(expected, uninterrupted)


def test_chained() -> None:
    """Of ours only the momentum, of torch's only the rate."""
    optimizer = sgd()
    ours = Scheduler(optimizer, Policy(20, momentum=POLICY.momentum))
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.9), ours], optimizer)
    for step in range(6):
        assert values(optimizer)[0] == pytest.approx((0.1 * 0.9**step, at(step)[1]))
        update(optimizer, chain)


def test_with_averaged_weights() -> None:
    """`SWALR` takes over from it, and gives way to it again."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = Scheduler(optimizer, POLICY)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    constant_rate = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=1)
    update(optimizer, scheduler, 5)
    assert values(optimizer) == [at(5)]
    update(optimizer, constant_rate, 3)
    averaged.update_parameters(model)
    assert values(optimizer)[0][0] == pytest.approx(0.05)
    update(optimizer, scheduler)
    assert values(optimizer) == [at(6)]


# Objects ---------------------------------------------------------------------------------------------


def test_the_update_is_not_wrapped() -> None:
    """Defect 13: torch's schedulers replace `optimizer.step`."""
    optimizer = sgd()
    step = optimizer.step.__func__  # type: ignore[attr-defined]
    Scheduler(optimizer, POLICY)
    assert "step" not in vars(optimizer)
    assert optimizer.step.__func__ is step  # type: ignore[attr-defined]


def test_it_goes_when_it_goes_out_of_scope() -> None:
    gc.collect()
    gc.disable()
    try:
        optimizer = sgd()
        scheduler = Scheduler(optimizer, POLICY)
        there, optimizer_there = weakref.ref(scheduler), weakref.ref(optimizer)
        del scheduler
        assert there() is None
        del optimizer
        assert optimizer_there() is None
    finally:
        gc.enable()


def test_many_on_one_optimizer_leave_nothing_behind() -> None:
    optimizer = sgd()
    hooks = optimizer._optimizer_load_state_dict_post_hooks
    for _ in range(1000):
        Scheduler(optimizer, POLICY)
    assert len(hooks) == 0
    kept = Scheduler(optimizer, POLICY)
    assert len(hooks) == 1
    optimizer.load_state_dict(optimizer.state_dict())
    assert values(optimizer) == [at(kept.last_epoch)]


def test_a_scheduler_that_died_within_the_load_is_passed_over() -> None:
    """Its hook may run once more where the interpreter collects late."""
    from onecycle.torch._scheduler import _after_loading

    class Keeping:
        hooks: list[Any] = []  # noqa: RUF012

        def register_load_state_dict_post_hook(self, hook: Any) -> Any:
            self.hooks.append(hook)
            return self

        def remove(self) -> None:
            """Keeps it."""

    optimizer: Any = Keeping()
    scheduler = Scheduler(sgd(), POLICY)
    _after_loading(optimizer, scheduler)
    del scheduler
    gc.collect()
    assert optimizer.hooks[0](optimizer) is None


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"]
)
def test_copies_are_whole(copied: Any) -> None:
    optimizer = sgd(0.1, 0.01)
    scheduler = Scheduler(optimizer, POLICY, start_step=3)
    twin = copied(scheduler)
    scheduler.step()
    assert twin.policy == POLICY
    assert twin.optimizer is not optimizer
    assert twin.last_epoch == 3
    twin.step()
    twin.step()
    assert values(twin.optimizer)[0] == at(5)
    twin.optimizer.load_state_dict(sgd(0.7, 0.7).state_dict())
    assert values(twin.optimizer)[0] == at(5)
    assert values(optimizer)[0] == at(4)


# What is refused -------------------------------------------------------------------------------------


NO_POLICY = (
    "policy must be a Policy, or a callable from step to a dict such as {'lr': 0.1}, "
    "got %s: see onecycle.one_cycle and onecycle.cyclical"
)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((3, POLICY), TypeError, "optimizer must be a torch optimizer, got int"),
        ((sgd(), 3), TypeError, NO_POLICY % 3),
        ((sgd(), bin), TypeError, NO_POLICY % bin),
        (
            (sgd(), lambda _: {"rate": 1.0, "lr": 1.0}),
            ValueError,
            "policy gives 'rate', known are 'lr', 'momentum', 'weight_decay'",
        ),
    ],
)
def test_what_is_refused(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        Scheduler(*arguments)


@pytest.mark.parametrize("step", [-1, 2.0, "3"])
def test_start_step_that_is_no_count(step: Any) -> None:
    text = f"start_step must be an int >= 0, got {step!r}: it counts completed updates"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Scheduler(sgd(), POLICY, start_step=step)


def test_steps_that_are_numpys() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = Scheduler(optimizer, lambda step: {"lr": 1.0 + step}, start_step=np.int64(3))
    assert optimizer.param_groups[0]["lr"] == 4.0
    scheduler.load_state_dict({"last_epoch": np.int64(5)})
    assert optimizer.param_groups[0]["lr"] == 6.0
    assert type(scheduler.state_dict()["last_epoch"]) is int
