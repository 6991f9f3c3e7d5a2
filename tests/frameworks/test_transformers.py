"""Transformers: policies, range tests and found rates for a `Trainer`, and what its own way gets wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import onecycle as oc

pytest.importorskip("transformers", reason="pip install 'onecycle[transformers]'")

from conformance import STEPS, Conformance, Values
from fingerprint import fingerprint
from small_trainer import new_trainer, samples
from transformers import Trainer, TrainerCallback, TrainingArguments, __version__

from onecycle.torch import Scheduler
from onecycle.transformers import _trial, find_lr, one_cycle, range_test, with_policy

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def train(trainer: Any, **options: Any) -> Values:
    """Train; what each update used."""
    used: Values = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        groups = optimizer.param_groups
        momentum = [g["momentum"] if "momentum" in g else g["betas"][0] for g in groups]
        used.append([{"lr": g["lr"], "momentum": m} for g, m in zip(groups, momentum, strict=True)])

    optimizer = trainer.create_optimizer()
    handle = getattr(optimizer, "optimizer", optimizer).register_step_pre_hook(note)
    trainer.train(**options)
    handle.remove()
    return used


def rates(trainer: Any) -> list[float]:
    return [groups[0]["lr"] for groups in train(trainer)]


def logged(trainer: Any) -> list[float]:
    return [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]


class StopAt(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        control.should_training_stop = state.global_step == self.step


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
        def build() -> Any:
            def optimizer(model: Any) -> torch.optim.Optimizer:
                parameters = list(model.parameters())
                share = len(parameters) // len(factors)
                groups = [
                    {"params": parameters[i * share : (i + 1) * share], "lr": 0.1 * factor}
                    for i, factor in enumerate(factors)
                ]
                return torch.optim.Adam(groups) if adam else torch.optim.SGD(groups, momentum=0.9)

            saving: dict[str, Any] = (
                {} if stop_at is None else {"save_strategy": "steps", "save_steps": stop_at}
            )
            options: dict[str, Any] = {
                "max_steps": steps,
                "gradient_accumulation_steps": accumulate,
                **saving,
            }
            return with_policy(new_trainer(self.folder, optimizer=optimizer, **options), policy)

        if stop_at is None:
            return train(build())
        first = build()
        first.add_callback(StopAt(stop_at))
        return train(first) + train(build(), resume_from_checkpoint=True)

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        trainer = new_trainer(self.folder, max_steps=STEPS, gradient_accumulation_steps=2)
        before = fingerprint(trainer.model), trainer.optimizer, trainer.state
        curve = range_test(trainer, **settings)
        return curve, before, (fingerprint(trainer.model), trainer.optimizer, trainer.state)


# The policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 4])
def test_updates_are_counted_over_epochs_and_accumulation(folder: str, accumulate: int) -> None:
    trainer = new_trainer(folder, num_train_epochs=2, gradient_accumulation_steps=accumulate)
    total = 2 * math.ceil(15 / accumulate)
    assert rates(one_cycle(trainer, 0.1)) == pytest.approx(oc.one_cycle(0.1, total).lr(np.arange(total)))


def test_the_peak_is_the_learning_rate_of_the_arguments_also_when_a_search_changes_it(folder: str) -> None:
    trainer = one_cycle(new_trainer(folder, max_steps=11, learning_rate=0.01), tail=0)
    assert max(rates(trainer)) == pytest.approx(0.01)
    trainer.args.learning_rate = 0.02
    assert max(rates(trainer)) == pytest.approx(0.02)


def test_logs_tell_the_rate_that_was_used(folder: str) -> None:
    """One that a callback sets is used, and the logs tell another."""
    options: dict[str, Any] = {"max_steps": 8, "logging_strategy": "steps", "logging_steps": 1}
    trainer = one_cycle(new_trainer(folder, **options), 0.1)
    assert rates(trainer) == logged(trainer)

    class Sets(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
            optimizer.param_groups[0]["lr"] = 0.1

    liar = new_trainer(folder, **options)
    liar.add_callback(Sets())
    assert rates(liar)[1:] == [0.1] * 7
    assert max(logged(liar)) < 1e-4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    folder: str, accumulate: int
) -> None:
    if accumulate > 1 and __version__.startswith("5.0."):
        pytest.skip("nor do Transformers 5.0's own, with accumulation")
    options: dict[str, Any] = {
        "max_steps": 24,
        "gradient_accumulation_steps": accumulate,
        "save_strategy": "steps",
        "save_steps": 9,
    }
    whole = one_cycle(new_trainer(folder + "/whole", **options), 0.01)
    whole.train()
    stopped = one_cycle(new_trainer(folder + "/parts", **options), 0.01)
    stopped.add_callback(StopAt(9))
    stopped.train()
    resumed = one_cycle(new_trainer(folder + "/parts", **options), 0.01)
    resumed.train(resume_from_checkpoint=True)
    assert fingerprint(resumed.model)["tensors"] == fingerprint(whole.model)["tensors"]


@pytest.mark.parametrize("own_way", [False, True])
def test_a_run_can_be_resumed_with_another_peak(folder: str, own_way: bool) -> None:
    """The trap: the schedule of the arguments goes on from the old one."""

    def build(peak: float) -> Any:
        trainer = new_trainer(folder, max_steps=20, save_strategy="steps", save_steps=5, learning_rate=peak)
        return trainer if own_way else one_cycle(trainer)

    first = build(0.1)
    first.add_callback(StopAt(5))
    first.train()
    used = [groups[0]["lr"] for groups in train(build(0.01), resume_from_checkpoint=True)]
    if own_way:
        assert used[0] == pytest.approx(0.1 * 15 / 20)
    else:
        assert used == pytest.approx(oc.one_cycle(0.01, 20).lr(np.arange(5, 20)))


def test_the_group_without_weight_decay_stays_without(folder: str) -> None:
    trainer = new_trainer(folder, max_steps=6, weight_decay=0.5)
    decays: list[list[float]] = []
    trainer.create_optimizer().register_step_pre_hook(
        lambda o, *_: decays.append([group["weight_decay"] for group in o.param_groups])
    )
    policy = with_policy(trainer, oc.Policy(6, lr=oc.constant(0.01), weight_decay=oc.linear(0.1, 0.6, 5)))
    policy.train()
    assert decays == [pytest.approx([0.1 * (i + 1), 0.0]) for i in range(6)]


def test_a_second_training_begins_the_policy_anew(folder: str) -> None:
    trainer = one_cycle(new_trainer(folder, max_steps=10), 0.1)
    first = train(trainer)
    assert train(trainer) == first


def test_a_model_that_is_made_anew_for_each_training(folder: str) -> None:
    model = new_trainer(folder).model

    def build(_: Any, arguments: Any, **options: Any) -> Any:
        return Trainer(args=arguments, model_init=lambda: type(model)(model.config), **options)

    trainer = one_cycle(new_trainer(folder, kind=build, max_steps=6), 0.1)
    range_test(trainer, start=1e-4, steps=10)
    trainer.train()
    assert trainer.lr_scheduler.last_epoch == 6


def test_the_trainer_s_own_way_knows_no_1cycle(folder: str) -> None:
    with pytest.raises(ValueError, match="onecycle"):
        TrainingArguments(folder, lr_scheduler_type="onecycle")


def test_wrong_arguments(folder: str) -> None:
    trainer = new_trainer(folder, max_steps=2)
    with pytest.raises(ValueError, match="tail"):
        one_cycle(trainer, 0.1, tail=2.0)
    with pytest.raises(TypeError, match="policy must be a Policy or a function"):
        with_policy(trainer, 0.1)  # type: ignore[arg-type]
    trainer.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.create_optimizer())
    one_cycle(trainer, 0.1)
    with pytest.raises(ValueError, match="trainer has a scheduler of its own: give none in optimizers="):
        trainer.train()


def test_a_scheduler_of_ours_can_be_given_with_its_optimizer(folder: str) -> None:
    model = new_trainer(folder).model
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def build(_: Any, arguments: Any, **options: Any) -> Any:
        scheduler = Scheduler(optimizer, oc.one_cycle(0.1, 8))
        return Trainer(model, arguments, **{**options, "optimizers": (optimizer, scheduler)})

    trainer = new_trainer(folder, kind=build, max_steps=8)
    assert rates(trainer) == pytest.approx(oc.one_cycle(0.1, 8).lr(np.arange(8)))


# The range test ----------------------------------------------------------------------------------------


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Notes each event."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            self.events.append(name)
        return super().__getattribute__(name)


def test_no_callback_is_called_and_nothing_is_logged_or_saved(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_strategy": "steps",
        "logging_steps": 1,
    }
    trainer = new_trainer(str(tmp_path), max_steps=20, eval_strategy="steps", eval_steps=1, **options)
    watcher = Watcher()
    trainer.add_callback(watcher)
    watcher.events.clear()
    range_test(trainer, start=1e-4, steps=20, evaluations=3)
    find_lr(trainer, total_steps=400, objective="val", budget=1.0)
    assert watcher.events == []
    assert trainer.state.log_history == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"bf16": True}, {"gradient_accumulation_steps": 4}])
def test_training_goes_on_as_if_there_had_been_no_range_test(
    folder: str, trained: bool, arguments: dict[str, Any]
) -> None:
    def outcome(test: bool) -> Any:
        trainer = one_cycle(new_trainer(folder, max_steps=7, **arguments), 0.01)
        if trained:
            trainer.train()
        before = [sorted(vars(each)) for each in (trainer, trainer.accelerator, trainer.model)]
        if test:
            range_test(trainer, start=1e-4, steps=20, evaluations=2)
            range_test(trainer, hyper="momentum", start=0.5, end=0.99, steps=10)
        assert before == [sorted(vars(each)) for each in (trainer, trainer.accelerator, trainer.model)]
        trainer.train()
        return fingerprint(trainer.model, trainer.optimizer)

    assert outcome(test=True) == outcome(test=False)


def test_all_is_put_back_after_an_error(folder: str) -> None:
    class Fails(Trainer):  # type: ignore[misc]
        left = 15

        def compute_loss(self, *args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("of the user's")
            return super().compute_loss(*args, **options)

    trainer = new_trainer(folder, kind=Fails, bf16=True)
    before = fingerprint(trainer.model), sorted(vars(trainer))
    with pytest.raises(RuntimeError, match="of the user's"):
        range_test(trainer, start=1e-4)
    assert (fingerprint(trainer.model), sorted(vars(trainer))) == before
    assert trainer.optimizer is None


def test_what_a_subclass_counts_within_its_containers_is_put_back(folder: str) -> None:
    class Counts(Trainer):  # type: ignore[misc]
        metrics: Any

        def compute_loss(self, *args: Any, **options: Any) -> Any:
            self.metrics["train"]["loss"].append(super().compute_loss(*args, **options))
            return self.metrics["train"]["loss"][-1]

    trainer = new_trainer(folder, kind=Counts)
    trainer.metrics = {"train": defaultdict(list)}
    range_test(trainer, start=1e-4, steps=10)
    assert trainer.metrics == {"train": {}}


@pytest.mark.parametrize(
    "arguments", [{}, {"gradient_accumulation_steps": 4}, {"label_smoothing_factor": 0.1}]
)
def test_a_step_of_the_sweep_is_an_update_of_the_trainer(folder: str, arguments: dict[str, Any]) -> None:
    """Bit for bit, with its optimizer, collator, loss, accumulation and clipping."""

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    log: dict[str, Any] = {"logging_strategy": "steps", "logging_steps": 1}
    options: dict[str, Any] = {"kind": InOrder, "dropout": 0.0, "max_steps": 20, "max_grad_norm": 0.3, **log}
    trainer = new_trainer(folder, **options, **arguments)
    with _trial(trainer, validate=True) as trial:
        policy = oc.one_cycle(0.01, 20)
        losses = oc.train(trial, policy, progress=False).column("loss")[1]
        assert trial.steps_per_epoch == math.ceil(15 / trainer.args.gradient_accumulation_steps)
        swept = fingerprint(trainer.model)["tensors"]
    trainer = new_trainer(folder, **options, **arguments)
    one_cycle(trainer, 0.01).train()
    assert swept == fingerprint(trainer.model)["tensors"]
    assert losses == [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_the_validation_loss_is_that_of_evaluate(folder: str) -> None:
    trainer = new_trainer(folder)
    with _trial(trainer, validate=True) as trial:
        loss = trial.evaluate()
    assert loss == pytest.approx(trainer.evaluate()["eval_loss"])
    assert range_test(trainer, start=1e-4, steps=10).val_loss is None
    val_loss = range_test(trainer, start=1e-4, steps=10, evaluations=5).val_loss
    assert val_loss is not None
    assert np.isfinite(val_loss).sum() == 5


def test_several_data_sets_for_validation_are_one(folder: str) -> None:
    trainer = new_trainer(folder)
    trainer.eval_dataset = {"one": samples(10)[:5], "two": samples(10)[5:]}
    with _trial(trainer, validate=True) as trial:
        assert trial.evaluate() == pytest.approx(new_trainer(folder).evaluate()["eval_loss"])


def test_a_validation_set_without_labels_is_refused(folder: str) -> None:
    trainer = new_trainer(folder)
    trainer.eval_dataset = [{"input_ids": row["input_ids"]} for row in samples(10)]
    with pytest.raises(
        ValueError, match="eval_dataset has no labels, and so no loss: pass objective='train'"
    ):
        find_lr(trainer, total_steps=400, budget=1.0)
    assert find_lr(trainer, total_steps=400, budget=1.0, objective="train").max_lr > 0


def test_divergence_is_seen_where_the_trainer_s_logs_hide_it(folder: str) -> None:
    def breaks_at(count: int) -> Any:
        calls = iter(range(1000))

        def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:  # noqa: ARG001
            return outputs.logits.mean() * (math.nan if next(calls) >= count else 1.0)

        return {"compute_loss_func": loss}

    options: dict[str, Any] = {"max_steps": 20, "logging_strategy": "steps", "logging_steps": 1}
    trainer = new_trainer(folder, options=breaks_at(12), **options)
    trainer.train()
    assert all(math.isfinite(row["loss"]) for row in trainer.state.log_history if "loss" in row)
    curve = range_test(new_trainer(folder, options=breaks_at(12)), start=1e-9, end=1e-8, steps=20)
    assert curve.settings["endings"] == ["the loss was nan at step 12"]


def test_find_lr_takes_the_length_of_the_training(folder: str) -> None:
    trainer = new_trainer(folder, num_train_epochs=40, gradient_accumulation_steps=2)  # 320 updates
    found = find_lr(trainer, budget=1.0)
    assert found.rule == "pilots"
    assert "of 40 updates, 12% of the length" in found.reason


def test_a_sharded_model_is_refused() -> None:
    from accelerate import DistributedType

    trainer = SimpleNamespace(accelerator=SimpleNamespace(distributed_type=DistributedType.FSDP))
    with pytest.raises(ValueError, match=r"trainer shards its model \(.*FSDP\)"):
        range_test(trainer)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(HERE / "transformers_two_processes.py"), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_follow_one_policy(ranks: list[Any]) -> None:
    total = 3 * math.ceil(60 / 4 / 2 / 2)
    for found in ranks[:1]:  # only the main process logs
        assert found["logged"] == pytest.approx(oc.one_cycle(0.1, total).lr(np.arange(total)))


def test_two_processes_see_one_curve_and_stay_as_they_were(ranks: list[Any]) -> None:
    first, second = ranks
    assert first["losses"] == second["losses"]
    assert first["losses"][0] == first["losses"][1]
    assert len(first["losses"][0]) < 60  # it stopped, and at one and the same step
    assert first["unchanged"]
    assert second["unchanged"]
    assert first["size"] == 16
