"""Lightning: the conformance scenarios in its own loops, and each trap of its tuner."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import STEPS, Conformance, Values
from torch import Tensor, nn
from torch_loops import fingerprint, loader, net, optimizer, plain

import onecycle as oc

pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'onecycle[lightning]'")

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from onecycle.lightning import OneCycle, RangeTest, find_lr, one_cycle, range_test
from onecycle.lightning._trial import trial_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended"),
]

BATCHES = 8


def trainer(*callbacks: Callback, **settings: Any) -> Trainer:
    return Trainer(
        **{
            "accelerator": "cpu",
            "callbacks": list(callbacks),
            "enable_checkpointing": any(isinstance(each, ModelCheckpoint) for each in callbacks),
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            **settings,
        }
    )


class Small(LightningModule):
    """A small regression with what modules do: it logs, draws random numbers, keeps lists and counts."""

    def __init__(
        self, seen: Values | None = None, factors: tuple[float, ...] = (1.0,), adam: bool = False
    ) -> None:
        super().__init__()
        record: Values = [] if seen is None else seen
        self.record: Callable[[], Values] = lambda: (
            record
        )  # no list of the module's own, which a range test would put back
        self.factors, self.adam = factors, adam
        self.net = net()
        self.outputs: list[Tensor] = []
        self.calls = 0

    @property
    def seen(self) -> Values:
        return self.record()

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
        loss = self.loss(batch)
        self.calls += 1
        self.outputs.append(loss.detach())
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log_dict({"epoch_seen": float(self.current_epoch), "step_seen": float(self.global_step)})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return optimizer(self.net, self.seen, self.factors, self.adam)


class Manual(Small):
    """The same by hand, updating after each `accumulate` batches."""

    def __init__(self, *arguments: Any, accumulate: int = 1) -> None:
        super().__init__(*arguments)
        self.automatic_optimization = False
        self.accumulate = accumulate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()
        loss = self.loss(batch)
        self.manual_backward(loss / self.accumulate)
        if (batch_idx + 1) % self.accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
        self.log("train_loss", loss)
        return loss


class Adversarial(Small):
    """Two optimizers with rates of their own, and no loss returned."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(6, 1)
        rates: list[tuple[float, float]] = []
        self.note = rates.append
        self.rates = lambda: rates

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        both: Any = self.optimizers()
        self.note((both[0].param_groups[0]["lr"], both[1].param_groups[0]["lr"]))
        losses = self.loss(batch), nn.functional.mse_loss(self.other(batch[0]), batch[1])
        for name, each, loss in zip(("g_loss", "d_loss"), both, losses, strict=True):
            each.zero_grad()
            self.manual_backward(loss)
            each.step()
            self.log(name, loss)

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9),
            torch.optim.Adam(self.other.parameters(), lr=0.01),
        ]


# The conformance scenarios ---------------------------------------------------------------------------


class Look(Callback):
    """Fingerprints where it stands in the callbacks, at the first batch of an epoch."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self.found: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        if self.found is None and trainer.current_epoch == self.epoch:
            self.found = fingerprint(pl_module, trainer.optimizers)


class TestCallback(Conformance):
    def module(self, policy: oc.Policy, accumulate: int, *arguments: Any) -> Small:  # noqa: ARG002
        return Small(*arguments)

    def trainer(self, policy: oc.Policy, accumulate: int, **settings: Any) -> Trainer:
        return trainer(OneCycle(policy=policy), accumulate_grad_batches=accumulate, **settings)

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "stopped.ckpt"

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
        seen: Values = []
        kept: Any = {}
        if stop_at is not None:
            part = self.trainer(policy, accumulate, max_epochs=-1, max_steps=stop_at)
            part.fit(self.module(policy, accumulate, seen, factors, adam), loader())
            part.save_checkpoint(self.path)
            kept = {"ckpt_path": self.path}
        whole = self.trainer(policy, accumulate, max_epochs=-1, max_steps=steps)
        whole.fit(self.module(policy, accumulate, seen, factors, adam), loader(), **kept)
        return seen

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        torch.manual_seed(0)
        before, test, after = Look(1), RangeTest(epochs=(1,), **settings), Look(1)
        policy = oc.one_cycle(0.1, STEPS)
        run = self.trainer(policy, 1)
        run.callbacks[:0] = [before, test, after]
        run.fit(self.module(policy, 1), loader(shuffle=True))
        assert test.curve is not None
        assert before.found is not None
        return test.curve, before.found, after.found


class TestCallbackWithManualOptimisation(TestCallback):
    def module(self, policy: oc.Policy, accumulate: int, *arguments: Any) -> Small:  # noqa: ARG002
        return Manual(*arguments, accumulate=accumulate)

    def trainer(self, policy: oc.Policy, accumulate: int, **settings: Any) -> Trainer:  # noqa: ARG002
        return trainer(OneCycle(policy=policy), **settings)


class TestScheduler(TestCallback):
    def module(self, policy: oc.Policy, accumulate: int, *arguments: Any) -> Small:  # noqa: ARG002
        class Scheduled(Small):
            def configure_optimizers(self) -> Any:
                max_lr = policy.lr(np.arange(STEPS)).max()
                return one_cycle(self, super().configure_optimizers(), max_lr, policy.total_steps)

        return Scheduled(*arguments)

    def trainer(self, policy: oc.Policy, accumulate: int, **settings: Any) -> Trainer:  # noqa: ARG002
        return trainer(accumulate_grad_batches=accumulate, **settings)


class TestOutsideOfAFit(TestCallback):
    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        torch.manual_seed(0)
        module, data = Small(), loader(shuffle=True, generator=torch.Generator().manual_seed(2))
        assert data.generator is not None
        before = fingerprint(module, []), data.generator.get_state().tolist()
        curve = range_test(module, data, progress=False, **settings)
        return curve, before, (fingerprint(module, []), data.generator.get_state().tolist())


# Training with a policy ------------------------------------------------------------------------------


class Rates(Callback):
    """Records what each batch trains with, as the optimizers hold it."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
        self.rates.append([group["lr"] for each in trainer.optimizers for group in each.param_groups])


def test_the_length_is_the_trainer_s_updates() -> None:
    module = Small()
    callback = OneCycle(0.1)
    trainer(callback, accumulate_grad_batches=2, max_epochs=3).fit(module, loader(7))
    policy = oc.one_cycle(0.1, 12)  # ceil(7 / 2) updates in each of 3 epochs
    assert callback.policy == policy
    assert callback.step == len(module.seen) == 12
    assert [step[0]["lr"] for step in module.seen] == pytest.approx([policy.lr(i) for i in range(12)])


def test_without_a_scheduler_s_interval_of_steps_it_would_move_per_epoch() -> None:
    class Own(Small):
        def configure_optimizers(self) -> Any:
            return one_cycle(self, super().configure_optimizers(), 0.1, momentum=None)

    module = Own()
    trainer().fit(module, loader())
    policy = oc.one_cycle(0.1, 16, momentum=None)
    assert [step[0] for step in module.seen] == [
        {"lr": pytest.approx(policy.lr(i)), "momentum": 0.9} for i in range(16)
    ]


def test_several_optimizers_follow_at_their_ratio() -> None:
    module = Adversarial()
    callback = OneCycle(0.1)
    trainer(callback).fit(module, loader())
    policy = oc.one_cycle(0.1, 2 * BATCHES)
    assert module.rates() == [pytest.approx((policy.lr(i), policy.lr(i) / 10)) for i in range(2 * BATCHES)]  # type: ignore[no-untyped-call]
    assert callback.step == 2 * BATCHES


@pytest.mark.parametrize("way", ["callback", "scheduler"])
def test_an_update_that_the_scaler_skips_is_none(way: str) -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Scheduled(Small):
        def configure_optimizers(self) -> Any:
            return one_cycle(self, super().configure_optimizers(), 0.1, 16)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    settings = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], "max_epochs": 6}
    module = Scheduled() if way == "scheduler" else Small()
    callbacks = [] if way == "scheduler" else [OneCycle(0.1, 16)]
    run = trainer(*callbacks, **settings)
    run.fit(module, loader())
    assert len(module.seen) < run.global_step == 48  # some were skipped, which Lightning counts
    policy = oc.one_cycle(0.1, 16)
    assert [step[0]["lr"] for step in module.seen] == pytest.approx(
        [policy.lr(i) for i in range(len(module.seen))]
    )


def test_a_checkpoint_within_a_batch_end_has_the_right_step(tmp_path: Path) -> None:
    class Early(Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            if arguments[-1] == 4:
                trainer.save_checkpoint(tmp_path / "early.ckpt")

    callback = OneCycle(0.1)
    trainer(Early(), callback, max_epochs=1).fit(Small(), loader())
    saved = torch.load(tmp_path / "early.ckpt", weights_only=False)
    assert saved["callbacks"]["OneCycle"] == {"step": 5}


def test_a_checkpoint_from_before_the_callback_goes_on_at_the_trainer_s_step(tmp_path: Path) -> None:
    part = trainer(max_epochs=1)
    part.fit(Small(), loader())
    part.save_checkpoint(tmp_path / "part.ckpt")
    module, callback = Small(), OneCycle(0.2)
    trainer(callback).fit(module, loader(), ckpt_path=tmp_path / "part.ckpt")
    policy = oc.one_cycle(0.2, 16)
    assert [step[0]["lr"] for step in module.seen] == pytest.approx([policy.lr(i) for i in range(8, 16)])


def test_a_second_trainer_begins_anew() -> None:
    callback = OneCycle(0.1)
    for epochs in (1, 2):
        module = Small()
        trainer(callback, max_epochs=epochs).fit(module, loader())
        assert callback.step == epochs * BATCHES
        assert module.seen[0][0]["lr"] == pytest.approx(0.01)
        assert callback.policy == oc.one_cycle(0.1, epochs * BATCHES)


def test_groups_that_are_unfrozen_later_follow_at_their_ratio() -> None:
    class Unfreeze(Callback):
        def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 1:
                late = {"params": [nn.Parameter(torch.ones(2))], "lr": 0.01}  # the first came with 0.1
                trainer.optimizers[0].add_param_group(late)

    module = Small()
    trainer(OneCycle(0.1), Unfreeze()).fit(module, loader())
    for step in module.seen[BATCHES:]:
        assert step[1]["lr"] == pytest.approx(step[0]["lr"] / 10)


def test_the_learning_rate_monitor_logs_what_was_used(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    module = Small()
    monitor = LearningRateMonitor("step", log_momentum=True)
    run = trainer(OneCycle(0.1), monitor, logger=logger, log_every_n_steps=1)
    run.fit(module, loader())
    rows = np.genfromtxt(Path(logger.log_dir) / "metrics.csv", delimiter=",", names=True)
    for column, name in (("lrSpy", "lr"), ("lrSpymomentum", "momentum")):
        logged = rows[column][np.isfinite(rows[column])]
        assert logged == pytest.approx([step[0][name] for step in module.seen])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneCycle(), r"OneCycle needs max_lr or policy, and not both"),
        (lambda: OneCycle(0.1, policy=oc.one_cycle(0.1, 5)), r"needs max_lr or policy, and not both"),
        (
            lambda: OneCycle(total_steps=5, policy=oc.one_cycle(0.1, 5)),
            r"policy takes the place of all other",
        ),
        (lambda: OneCycle(policy=0.1), r"policy must be a Policy"),  # type: ignore[arg-type]
        (lambda: OneCycle(-1), r"max_lr must be > 0"),
        (lambda: OneCycle(0.1, tail=1.0), r"tail must be < 1"),
        (lambda: RangeTest(stepps=10), r"RangeTest knows no 'stepps'; its settings are .*steps"),
        (lambda: RangeTest(apply=True, hyper="momentum"), r"apply sets the learning rate"),
    ],
)
def test_wrong_arguments_are_refused_at_once(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_trainer_without_end_needs_a_length() -> None:
    with pytest.raises(ValueError, match=r"total_steps must be given.*max_epochs=-1, max_steps=-1"):
        trainer(OneCycle(0.1), max_epochs=-1).fit(Small(), loader())


def test_a_second_scheduler_is_refused() -> None:
    class Scheduled(Small):
        def configure_optimizers(self) -> Any:
            return one_cycle(self, super().configure_optimizers(), 0.1)

    with pytest.raises(ValueError, match=r"and so does the scheduler that configure_optimizers gives"):
        trainer(OneCycle(0.1)).fit(Scheduled(), loader())
    with pytest.raises(ValueError, match=r"RangeTest\(apply=True\) sets the rate.*would overwrite it"):
        trainer(RangeTest(apply=True)).fit(Scheduled(), loader())
    with pytest.raises(ValueError, match=r"and OneCycle would overwrite it"):
        trainer(RangeTest(apply=True), OneCycle(0.1)).fit(Small(), loader())


# Range tests within a fit ----------------------------------------------------------------------------

LOW: dict[str, Any] = {"start": 1e-6, "end": 1e-3}  # rates at which nothing diverges


def fitted(*callbacks: Callback, path: Path, **settings: Any) -> tuple[Small, Trainer, Any]:
    """A fit with all that Lightning's own finder has broken, and all that it leaves."""
    torch.manual_seed(0)
    stopping = EarlyStopping("val_loss", patience=2)
    saving = ModelCheckpoint(path / "best", monitor="val_loss", save_top_k=2)
    logger = CSVLogger(path)
    module = Small(factors=(1.0, 0.1))
    run = trainer(
        *callbacks,
        stopping,
        saving,
        logger=logger,
        limit_val_batches=3,
        log_every_n_steps=1,
        max_epochs=3,
        num_sanity_val_steps=1,
        **settings,
    )
    run.fit(module, loader(shuffle=True, batches=12), loader())
    left = {
        "fingerprint": fingerprint(module, run.optimizers),
        "seen": module.seen,
        "stopping": plain(stopping.state_dict()),
        "best": sorted(float(each) for each in saving.best_k_models.values()),
        "step": run.global_step,
        "validated": run.num_val_batches,
        "logged": (Path(logger.log_dir) / "metrics.csv").read_text(),
        "files": sorted(each.relative_to(path).as_posix() for each in path.rglob("*")),
    }
    return module, run, left


def test_a_fit_with_a_range_test_ends_as_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    _, _, without = fitted(path=tmp_path / "plain")
    test = RangeTest(epochs=(0, 2), monitor="val_loss", steps=40)
    module, run, tested = fitted(test, path=tmp_path / "tested")
    tested["seen"] = [step for step in tested["seen"] if step in without["seen"]]
    assert tested == without
    assert run.num_val_batches == [3]
    assert "log" not in vars(module)
    assert not list((tmp_path / "here").iterdir())
    assert test.curve is not None
    assert test.curve.val_loss is not None


def test_the_sweep_is_as_long_as_asked_however_short_the_fit() -> None:
    test = RangeTest(steps=50, **LOW)
    trainer(test, max_epochs=1, max_steps=3).fit(Small(), loader())
    assert test.curve is not None
    assert len(test.curve) == 50
    assert test.curve.value[[0, -1]].tolist() == pytest.approx([1e-6, 1e-3])


def test_each_epoch_s_test_is_a_whole_one() -> None:
    lengths: list[int] = []

    class Length(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            assert test.curve is not None
            lengths.append(len(test.curve))
            test.curve = None

    test = RangeTest(epochs=(0, 1, 2), steps=30, **LOW)
    trainer(test, Length(), max_epochs=3).fit(Small(), loader())
    assert lengths == [30, 30, 30]


def test_a_constant_loss_is_recorded_as_it_is_and_suggests_nothing() -> None:
    class Constant(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
            return 0.0 * self.loss(batch) + 1.0

    test = RangeTest(steps=60)
    trainer(test).fit(Constant(), loader())
    assert test.curve is not None
    assert test.curve.loss.tolist() == [1.0] * 60
    assert test.suggestion is None
    assert test.reason


def test_the_suggestion_is_applied_at_the_groups_ratios() -> None:
    module, rates = Small(factors=(1.0, 0.01)), Rates()
    test = RangeTest(apply=True, steps=100)
    trainer(test, rates).fit(module, loader(64, 32))
    assert test.suggestion is not None
    value = test.suggestion.max_lr
    assert test.curve is not None
    assert test.curve.value.min() < value < test.curve.value.max()
    assert rates.rates == [pytest.approx([value, value / 100])] * 128
    sweep = [step for step in module.seen if step[0]["lr"] != pytest.approx(value)]
    assert len(sweep) >= len(test.curve)
    assert all(group[1]["lr"] == pytest.approx(group[0]["lr"] / 100) for group in sweep)


def test_an_inconclusive_curve_leaves_the_rate() -> None:
    rates = Rates()
    test = RangeTest(apply=True, steps=20, start=1e-9, end=1e-8)
    with pytest.warns(UserWarning, match="the range test does not tell, and the rate stays as it is"):
        trainer(test, rates).fit(Small(), loader())
    assert test.suggestion is None
    assert rates.rates == [[0.1]] * 16
    with pytest.raises(oc.Inconclusive):
        float(test)


def test_one_cycle_takes_what_the_range_test_suggests(tmp_path: Path) -> None:
    module = Small()
    test = RangeTest(seed=1)
    callback = OneCycle(test, momentum=None)
    run = trainer(test, callback)
    run.fit(module, loader(64, 32))
    assert test.suggestion is not None
    assert callback.policy == oc.one_cycle(test.suggestion.max_lr, 128, momentum=None)
    assert callback.step == 128
    run.save_checkpoint(tmp_path / "whole.ckpt")
    again = RangeTest(seed=2)
    longer = OneCycle(again, momentum=None)
    module = Small()
    trainer(again, longer, max_epochs=3).fit(module, loader(64, 32), ckpt_path=tmp_path / "whole.ckpt")
    assert (again.suggestion, again.curve) == (test.suggestion, test.curve)
    assert longer.step == 192
    assert len(module.seen) == 64  # no second sweep


def test_the_range_test_must_come_first() -> None:
    test = RangeTest()
    with pytest.raises(RuntimeError, match="put RangeTest before OneCycle"):
        trainer(OneCycle(test), test).fit(Small(), loader())


def test_several_optimizers_are_swept_together() -> None:
    module, before, after = Adversarial(), Look(), Look()
    test = RangeTest(loss="d_loss", steps=20, **LOW)
    trainer(before, test, after).fit(module, loader())
    assert test.curve is not None
    swept = module.rates()[:20]  # type: ignore[no-untyped-call]
    assert swept == [pytest.approx((value, value / 10)) for value in test.curve.value]
    assert before.found["optimizers"] == after.found["optimizers"]
    assert before.found["model"] == after.found["model"]


def test_a_loss_that_is_not_told_is_asked_for() -> None:
    with pytest.raises(TypeError, match=r"training_step must return the loss, or log it under a name"):
        trainer(RangeTest()).fit(Adversarial(), loader())
    with pytest.raises(TypeError, match=r"training_step must log 'loss', the name that is given as loss"):
        trainer(RangeTest(loss="loss")).fit(Adversarial(), loader())


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_batches_that_are_passed_over_are_no_points() -> None:
    class Choosy(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 2 else {"loss": self.loss(batch), "more": 1}

    test = RangeTest(steps=20, **LOW)
    trainer(test).fit(Choosy(), loader())
    assert test.curve is not None
    assert len(test.curve) == 20


def test_a_step_without_an_update_is_an_error() -> None:
    class Idle(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
            return self.loss(batch)

    with pytest.raises(ValueError, match=r"no optimizer made an update in 64 batches"):
        trainer(RangeTest()).fit(Idle(), loader())


def test_the_loss_scaler_is_put_back_and_skipped_updates_are_no_points() -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Scale(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            scales.append(scaler.get_scale())

    scales: list[float] = []
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    test = RangeTest(steps=20, **LOW)
    module = Small()
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    trainer(Scale(), test, Scale(), plugins=[plugin], max_steps=1).fit(module, loader())
    assert scales == [2.0**40] * 2
    assert test.curve is not None
    assert len(test.curve) == len(module.seen) == 20


def test_a_loss_that_is_not_a_number_ends_the_sweep_though_the_scaler_skips_it() -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Breaks(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * (float("nan") if self.calls > 15 else 1.0)

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1.0))
    test = RangeTest(steps=30, **LOW)
    trainer(test, plugins=[plugin], max_steps=1).fit(Breaks(), loader())
    assert test.curve is not None
    assert np.isfinite(test.curve.loss).sum() == 15
    assert np.isnan(test.curve.loss[-1])


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument")
def test_a_step_that_takes_the_iterator_is_refused() -> None:
    class Iterates(Small):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return self.loss(next(dataloader_iter)[0])

    with pytest.raises(TypeError, match="training_step takes a dataloader_iter"):
        trainer(RangeTest()).fit(Iterates(), loader())


def test_a_step_may_take_any_arguments() -> None:
    class Open(Small):
        def training_step(self, *arguments: Any) -> Any:
            indices.append(arguments[1])
            return self.loss(arguments[0])

    indices: list[int] = []
    trainer(RangeTest(steps=20, **LOW), max_steps=1).fit(Open(), loader())
    assert indices == [*range(8), *range(8), *range(4), 0]


def test_clipping_and_the_module_s_own_step_hold_in_the_sweep() -> None:
    class Own(Small):
        norms: list[float] = []  # noqa: RUF012

        def on_before_optimizer_step(self, optimizer: Any) -> None:  # noqa: ARG002
            self.norms.append(0.0)

        def optimizer_step(self, *arguments: Any, **named: Any) -> None:
            super().optimizer_step(*arguments, **named)
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            self.norms[-1] = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])))

    test = RangeTest(steps=20, **LOW)
    trainer(test, gradient_clip_val=0.01, max_steps=1).fit(Own(), loader())
    assert len(Own.norms) == 21
    assert max(Own.norms) == pytest.approx(0.01, rel=1e-3)


def test_lbfgs_sees_one_batch_a_step() -> None:
    class Second(Small):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    test = RangeTest(steps=12, **LOW)
    trainer(test, max_steps=1).fit(Second(), loader())
    assert test.curve is not None
    assert len(test.curve) == 12


def test_an_error_in_the_sweep_leaves_all_as_it_was() -> None:
    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.calls == 7:
                raise ArithmeticError("at call 7")
            return super().training_step(batch, batch_idx)

    before, test, module = Look(), RangeTest(), Fails()
    run = trainer(before, test)
    with pytest.raises(ArithmeticError, match="at call 7"):
        run.fit(module, loader())
    assert fingerprint(module, run.optimizers)["model"] == before.found["model"]
    assert module.calls == 0
    assert not module.outputs
    assert "log" not in vars(module)
    assert test in run.callbacks


def test_frozen_parts_stay_in_eval_mode() -> None:
    class Frozen(Small):
        def on_train_epoch_start(self) -> None:
            self.net[1].eval()

    module = Frozen()
    buffers = [each.clone() for each in module.net[1].buffers()]
    trainer(RangeTest(steps=20, monitor="val_loss", **LOW)).fit(module, loader(), loader())
    assert not module.net[1].training
    assert all(map(torch.equal, buffers, module.net[1].buffers()))


def test_an_interrupt_while_an_evaluation_puts_the_data_back() -> None:
    class Disturbed(Callback):
        put_back = 0

        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            with trial_of(trainer, None, "val_loss") as trial:
                stream: Any = trial._stream
                kept = stream.put_back_sources

                def disturbed(sources: Any) -> None:
                    signal.raise_signal(signal.SIGINT)
                    kept(sources)
                    self.put_back += 1

                stream.put_back_sources = disturbed
                with pytest.raises(KeyboardInterrupt):
                    trial.evaluate()
            assert trainer.training
            assert trainer.lightning_module.training
            assert torch.is_grad_enabled()

    disturbed = Disturbed()
    trainer(disturbed, max_epochs=1, limit_train_batches=1).fit(Small(), loader(), loader())
    assert disturbed.put_back == 1


def test_schedulers_that_a_training_step_moves_are_put_back() -> None:
    class Scheduled(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            scheduler: Any = self.lr_schedulers()
            scheduler.step()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, 4)]

    without, tested = Scheduled(), Scheduled()
    trainer().fit(without, loader())
    trainer(RangeTest(steps=20, **LOW)).fit(tested, loader())
    assert tested.seen[20:] == without.seen


def test_several_loaders_are_one_batch() -> None:
    class Two(Small):
        def loss(self, batch: Any) -> Tensor:
            return super().loss(batch["a"]) + super().loss(batch["b"])

    test = RangeTest(steps=30, **LOW)
    trainer(test).fit(Two(), {"a": loader(4), "b": loader(6)})
    assert test.curve is not None
    assert len(test.curve) == 30


def test_the_suggestion_goes_to_the_loggers(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    test = RangeTest(log=True)
    trainer(test, logger=logger, log_every_n_steps=100).fit(Small(), loader(64, 32))
    assert test.suggestion is not None
    rows = np.genfromtxt(Path(logger.log_dir) / "metrics.csv", delimiter=",", names=True)
    assert float(rows["range_testmax_lr"].flat[0]) == pytest.approx(test.suggestion.max_lr)


# Helpers, within a fit and outside -------------------------------------------------------------------


class Data(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.prepared = False

    def setup(self, stage: str) -> None:  # noqa: ARG002
        self.prepared = True

    def train_dataloader(self) -> Any:
        assert self.prepared
        return loader(32, 32, shuffle=True)

    def val_dataloader(self) -> Any:
        return loader()


def test_find_lr_takes_length_and_settings_from_the_trainer() -> None:
    module, data = Small(), Data()
    run = trainer(max_epochs=20, accumulate_grad_batches=2)
    found = find_lr(module, data, trainer=run, monitor="val_loss", progress=False, budget=1)
    assert found.rule == "pilots"
    assert re.search(r"of 40 updates, 1\d% of the length", found.reason)  # of 20 * 16
    assert module._trainer is None
    assert data.trainer is None
    assert run.lightning_module is None
    assert run.global_step == 0


def test_find_lr_within_a_fit() -> None:
    class Finds(Small):
        found: list[oc.Suggestion] = []  # noqa: RUF012

        def on_train_start(self) -> None:
            before = fingerprint(self, [])
            for subject in (self, self.trainer):
                self.found.append(find_lr(subject, budget=1, progress=False))
            assert fingerprint(self, []) == before

    module = Finds()
    run = trainer(max_epochs=10)
    run.fit(module, loader(32, 32))
    first, second = module.found
    assert first == second
    assert run.global_step == 320


def test_what_a_fit_has_already_cannot_be_given() -> None:
    class Asks(Small):
        def on_train_start(self) -> None:
            range_test(self, loader())

    with pytest.raises(ValueError, match=r"data and val_data must be left out within a fit"):
        trainer().fit(Asks(), loader())


def test_elsewhere_in_a_fit_is_an_error() -> None:
    class Early(Small):
        def on_fit_start(self) -> None:
            range_test(self)

    class Validating(Small):
        def on_validation_start(self) -> None:
            range_test(self)

    for kind in (Early, Validating):
        with pytest.raises(RuntimeError, match=r"on_train_start or later"):
            trainer().fit(kind(), loader(), loader())


def test_a_fitted_module_can_be_tested_again_with_its_trainer_s_settings() -> None:
    module = Small()
    run = trainer(accumulate_grad_batches=4)
    run.fit(module, loader())
    module.eval()
    calls = module.calls
    curve = range_test(module, loader(), steps=10, progress=False, **LOW)
    assert len(curve) == 10
    assert module.calls == calls
    assert not module.training
    assert module.trainer is run
    assert range_test(run, loader(), steps=10, progress=False, **LOW) == curve


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: range_test(nn.Linear(1, 1), loader()), TypeError, r"must be a LightningModule .*got Linear"),
        (lambda: range_test(trainer(), loader()), TypeError, r"this trainer has no module yet"),
        (lambda: find_lr(Small(), loader()), ValueError, r"total_steps must be given, or the trainer"),
        (
            lambda: range_test(Small(), loader(), loader(), monitor="loss", progress=False),
            ValueError,
            r"monitor 'loss' is not logged in validation_step, which logs 'val_loss'",
        ),
        (
            lambda: range_test(Small(), loader(), monitor="val_loss", progress=False),
            ValueError,
            r"monitor needs validation data",
        ),
        (lambda: range_test(Small(), [], progress=False), ValueError, r"data gave no batch"),
    ],
)
@pytest.mark.filterwarnings("ignore:Total length of .* across ranks is zero")
def test_wrong_use_of_the_helpers(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_an_interrupt_comes_through_as_one() -> None:
    class Interrupted(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    module = Interrupted()
    before = fingerprint(module, [])
    with pytest.raises(KeyboardInterrupt):
        range_test(module, loader(), progress=False)
    assert fingerprint(module, []) == before


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    range_test(Small(), loader(), steps=10, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_example_reads_digits(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the example's digits are scikit-learn's")
    example = Path(__file__).parents[2] / "examples/lightning_digits.py"
    ended = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    accuracy = re.search(r"accuracy on 360 held-out digits: ([\d.]+)%", ended.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 97
