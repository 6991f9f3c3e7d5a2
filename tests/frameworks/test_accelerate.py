"""Accelerate: one step an update in every setting, range tests whose loss the processes share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import onecycle as oc

pytest.importorskip("accelerate", reason="pip install 'onecycle[accelerate]'")

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from conformance import STEPS, Conformance, Values
from fingerprint import fingerprint

from onecycle.accelerate import Scheduler, Trial, find_lr, range_test

HERE = Path(__file__).parent
mse = nn.functional.mse_loss


@pytest.fixture(autouse=True)
def _no_state_from_other_tests() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def data() -> TensorDataset:
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    return TensorDataset(x, x.sum(dim=1, keepdim=True))


def prepared(
    adam: bool = False, factors: tuple[float, ...] = (1.0,), scaler: Any = None, **options: Any
) -> tuple[Accelerator, nn.Module, Any, Any]:
    accelerator = Accelerator(cpu=True, **options)
    accelerator.scaler = scaler  # which prepare gives to the optimizer
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.Linear(4, 1))
    parameters = list(model.parameters())
    share = len(parameters) // len(factors)
    groups = [
        {"params": parameters[i * share : (i + 1) * share], "lr": 0.1 * factor}
        for i, factor in enumerate(factors)
    ]
    optimizer = torch.optim.Adam(groups) if adam else torch.optim.SGD(groups, momentum=0.9)
    loader = DataLoader(data(), batch_size=8, shuffle=True)
    return (accelerator, *accelerator.prepare(model, optimizer, loader))


def train(setting: tuple[Any, ...], scheduler: Any, updates: int) -> Values:
    """Accelerate's own loop; what each update used."""
    accelerator, model, optimizer, loader = setting
    used: Values = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        groups = optimizer.param_groups
        momentum = [g["momentum"] if "momentum" in g else g["betas"][0] for g in groups]
        used.append([{"lr": g["lr"], "momentum": m} for g, m in zip(groups, momentum, strict=True)])

    handle = optimizer.optimizer.register_step_pre_hook(note)
    while True:
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(mse(model(x), y))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if len(used) == updates:
                handle.remove()
                return used


class TestConformance(Conformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = str(tmp_path)

    def used(
        self,
        policy: oc.Policy,
        steps: int,
        *,
        adam: bool = False,
        stop_at: int | None = None,
        factors: tuple[float, ...] = (1.0,),
        accumulate: int = 1,
    ) -> Values:
        def build() -> tuple[Any, Any]:
            setting = prepared(adam, factors, gradient_accumulation_steps=accumulate)
            return setting, setting[0].prepare(Scheduler(setting[2], policy))

        setting, scheduler = build()
        values = train(setting, scheduler, stop_at or steps)
        if stop_at is not None:
            setting[0].save_state(self.folder)
            setting, scheduler = build()
            setting[0].load_state(self.folder)
            values += train(setting, scheduler, steps - stop_at)
        return values

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        accelerator, model, optimizer, loader = prepared(gradient_accumulation_steps=2)
        before = fingerprint(model, optimizer), vars(accelerator.gradient_state).copy(), accelerator.step
        curve = range_test(accelerator, model, optimizer, mse, loader, **settings)
        after = fingerprint(model, optimizer), vars(accelerator.gradient_state).copy(), accelerator.step
        return curve, before, after


@pytest.mark.parametrize("midway", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_goes_on_as_if_there_had_been_no_range_test(midway: bool, accumulate: int) -> None:
    def losses(test: bool) -> Any:
        setting = prepared(gradient_accumulation_steps=accumulate)
        scheduler = setting[0].prepare(Scheduler(setting[2], oc.one_cycle(0.1, STEPS)))
        if midway:
            train(setting, scheduler, 5)
        if test:
            accelerator, model, optimizer, loader = setting
            range_test(accelerator, model, optimizer, mse, loader, start=1e-3, steps=30, val_loader=loader)
        train(setting, scheduler, 7)
        return fingerprint(setting[1], setting[2])

    assert losses(test=True) == losses(test=False)


def test_a_range_test_within_an_epoch_leaves_its_accumulation_alone() -> None:
    def losses(test: bool) -> Any:
        accelerator, model, optimizer, loader = prepared(gradient_accumulation_steps=3)
        for i, (x, y) in enumerate(loader):
            if test and i == 2:
                range_test(accelerator, model, optimizer, mse, loader, start=1e-3, steps=20)
            with accelerator.accumulate(model):
                accelerator.backward(mse(model(x), y))
                optimizer.step()
                optimizer.zero_grad()
        return fingerprint(model, optimizer), accelerator.sync_gradients, loader.iteration

    assert losses(test=True) == losses(test=False)


def test_a_skipped_update_steps_neither_scheduler_nor_sweep() -> None:
    accelerator, model, optimizer, loader = prepared(scaler=torch.amp.GradScaler("cpu"))
    scheduler = accelerator.prepare(Scheduler(optimizer, oc.one_cycle(0.1, STEPS)))
    calls = iter(range(1000))

    def overflows_each_third_time(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return mse(output, target) * (float("inf") if next(calls) % 3 == 2 else 1.0)

    counts = []
    for x, y in loader:
        accelerator.backward(overflows_each_third_time(model(x), y))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        counts.append(scheduler.scheduler.last_epoch)
    assert counts == [1, 2, 2, 3, 4, 4, 5, 6]

    before = fingerprint(model, optimizer), accelerator.scaler.state_dict()
    curve = range_test(
        accelerator, model, optimizer, overflows_each_third_time, loader, start=1e-6, end=0.1, steps=30
    )
    assert (len(curve), curve.settings["endings"]) == (30, ["the sweep reached its end"])
    assert (fingerprint(model, optimizer), accelerator.scaler.state_dict()) == before


def test_the_loss_is_the_mean_over_the_accumulated_batches() -> None:
    accelerator, model, optimizer, loader = prepared(gradient_accumulation_steps=4)
    trial = Trial(accelerator, model, optimizer, lambda output, _: output.sum() * 0 + next(count), loader)
    count = iter(range(100))
    assert [float(trial.step()) for _ in range(3)] == [1.5, 5.5, 9.5]
    assert (trial.size, trial.steps_per_epoch) == (32, 2)
    assert trial.describe()["optimizer"] == "SGD"


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_gradients_are_clipped_once_an_update() -> None:
    accelerator, model, optimizer, loader = prepared(gradient_accumulation_steps=2)
    norms = []
    optimizer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(float(torch.cat([g.view(-1) for g in gradients(model)]).norm()))
    )
    trial = Trial(accelerator, model, optimizer, mse, loader, clip_grad_norm=0.01)
    for _ in range(5):
        trial.step()
    assert norms == pytest.approx([0.01] * 5, rel=1e-3)


def test_a_step_of_your_own_is_repeated_up_to_the_update() -> None:
    accelerator, model, optimizer, loader = prepared(gradient_accumulation_steps=2)

    def step(batch: Any) -> torch.Tensor:
        with accelerator.accumulate(model):
            loss = mse(model(batch[0]), batch[1])
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        return loss

    settings: dict[str, Any] = {"start": 1e-3, "end": 0.1, "steps": 20}
    mine = range_test(accelerator, model, optimizer, None, loader, step=step, **settings)
    yours = range_test(accelerator, model, optimizer, mse, loader, **settings)
    assert mine.loss.tolist() == yours.loss.tolist()


def test_a_data_set_without_length() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(data())

    accelerator, model, optimizer, _ = prepared()
    loader = accelerator.prepare(DataLoader(Endless(), batch_size=8))
    trial = Trial(accelerator, model, optimizer, mse, loader)
    assert trial.steps_per_epoch is None
    assert len(oc.range_test(trial, start=1e-3, end=1.0, steps=20)) == 20
    assert trial.size == 8


def test_a_scheduler_may_be_made_before_or_after_its_optimizer_is_prepared() -> None:
    _, _, optimizer, _ = prepared()
    for each in (optimizer, optimizer.optimizer):
        assert Scheduler(each, oc.one_cycle(0.1, STEPS)).optimizer is optimizer.optimizer


def test_wrong_arguments() -> None:
    accelerator, model, optimizer, loader = prepared()
    with pytest.raises(TypeError, match=r"optimizer must be what accelerator\.prepare returned, got SGD"):
        range_test(accelerator, model, optimizer.optimizer, mse, loader)
    with pytest.raises(ValueError, match=r"step does its own update"):
        range_test(accelerator, model, optimizer, mse, loader, step=lambda b: b, clip_grad_norm=1.0)
    with pytest.raises(ValueError, match=r"clip_grad_norm must be > 0 or None, got -1"):
        find_lr(accelerator, model, optimizer, mse, loader, total_steps=100, clip_grad_norm=-1.0)
    with pytest.raises(TypeError, match=r"clip_grad_norm must be a number or None, got str"):
        find_lr(accelerator, model, optimizer, mse, loader, total_steps=100, clip_grad_norm="1")  # type: ignore[arg-type]


# Two processes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(HERE / "accelerate_two_processes.py"), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("split", [False, True])
def test_two_processes_step_once_an_update(ranks: list[Any], split: bool, accumulate: int) -> None:
    policy = oc.one_cycle(0.1, 12)
    for found in ranks:
        plain, ours = found["rates"][f"split_batches={split}, accumulate={accumulate}"]
        assert ours == pytest.approx([policy(i)["lr"] for i in range(12)])
        # The trap: as any other scheduler, the cycle runs at twice the speed, then past its end.
        assert plain == pytest.approx([policy(i if split else 2 * i)["lr"] for i in range(12)])


@pytest.mark.parametrize("sampler", ["seedable=False", "seedable=True"])
def test_two_processes_see_one_curve_and_stay_as_they_were(ranks: list[Any], sampler: str) -> None:
    first, second = (found[sampler] for found in ranks)
    assert first == second
    assert first["unchanged"]
    assert first["open"] == 1  # Accelerate's word for none
    assert first["size"] == 32
    same, again, other = first["losses"]
    assert same == again
    assert same[:10] != other[:10]
    assert len(same) < 60  # it stopped, and at one and the same step
    assert 0 < first["max_lr"] < 100
