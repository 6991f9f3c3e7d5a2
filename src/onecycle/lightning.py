"""Lightning: callbacks that train with a policy and that run a range test, and one-line helpers.

Nothing here re-enters a trainer of yours. A range test within a fit trains on the fit's own model,
optimizers, precision and data while callbacks and loggers are muted, and then puts all of it back; one
outside of a fit does so within a short fit of its own.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

try:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
    from lightning.pytorch.utilities.exceptions import _TunerExitException
    from lightning.pytorch.utilities.warnings import PossibleUserWarning
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.lightning needs Lightning ({error}): pip install 'onecycle[lightning]'", name=error.name
    ) from error

from onecycle import _find, _policies, _range_test
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._policies import Policy
from onecycle._suggest import Suggestion
from onecycle.torch._hypers import Hypers
from onecycle.torch._scheduler import _check_policy
from onecycle.torch._state import (
    GENERATORS,
    OF_MODULES,
    Tree,
    find,
    keep_attributes,
    keep_random,
    put_back_into,
    put_back_random,
)
from onecycle.torch._stream import private
from onecycle.torch._trial import _samples
from onecycle.torch._updates import UpdateScheduler, UpdateTrial, updates

__all__ = ["OneCycle", "RangeTest", "find_lr", "one_cycle", "range_test"]

Result = TypeVar("Result")


# Training with a policy ------------------------------------------------------------------------------


class OneCycle(Callback):
    """Trains with the 1cycle policy, or with any other: sets every optimizer of the module.

    The step of the policy is the count of batches after which an optimizer has really made an update:
    batches that only accumulate gradients count as none, nor do updates that a loss scaler skips. It
    works with manual optimisation and several optimizers too, whose rates keep their ratios to the first
    one's. The count, one integer, is all that a checkpoint holds of it, so that a run can be resumed with
    another length or peak.

    Args:
        max_lr: rate at the peak: a number, a `Suggestion`, or a `RangeTest` that stands before this in the
            trainer's callbacks.
        total_steps: updates in all; None: as many as the trainer is going to make.
        policy: a `Policy`, or any callable from step to a dict, in place of all other arguments.
        **settings: `min_lr`, `final_lr`, `tail`, `peak`, `momentum`, `shape`, `form`: see
            `onecycle.one_cycle`.

    Attributes:
        policy: the policy, once training has begun.

    Raises:
        TypeError: neither `max_lr` nor `policy` is given, or both.
        ValueError: an argument is out of its range, or, when the fit begins: the trainer has no end and
            `total_steps` is None, or `configure_optimizers` gives a scheduler too.
    """

    policy: Policy | Callable[[int], Mapping[str, float]] | None

    def __init__(
        self,
        max_lr: Any = None,
        total_steps: int | None = None,
        *,
        policy: Policy | Callable[[int], Mapping[str, float]] | None = None,
        **settings: Any,
    ) -> None:
        if (max_lr is None) == (policy is None):
            raise TypeError("OneCycle needs max_lr or policy, and not both")
        if policy is not None:
            if settings or total_steps is not None:
                raise TypeError("policy takes the place of all other arguments of OneCycle")
            _check_policy(policy)
        elif not isinstance(max_lr, RangeTest):
            _policies.one_cycle(max_lr, 100 if total_steps is None else total_steps, **settings)
        self.policy = self._given = policy
        self._max_lr, self._total_steps, self._settings = max_lr, total_steps, settings
        self._optimizers: list[torch.optim.Optimizer] = []
        self._step = 0

    @property
    def step(self) -> int:
        """Updates so far."""
        return self._step + (self._updates() != self._seen if self._optimizers else 0)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step = state_dict["step"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        if stage == "fit":
            self.policy, self._optimizers = self._given, []
            if trainer.global_step == 0:
                self._step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.lr_scheduler_configs:
            raise ValueError(
                "OneCycle sets the rate, and so does the scheduler that configure_optimizers gives, "
                f"{type(trainer.lr_scheduler_configs[0].scheduler).__name__}: leave out one of them"
            )
        self._optimizers = trainer.optimizers
        self._seen = self._updates()
        self._hypers = Hypers(trainer.optimizers)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if self._step == 0:
            # A checkpoint from before this callback. Lightning counts each optimizer's steps.
            self._step = trainer.global_step // max(len(self._optimizers), 1)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.policy is None:
            self.policy = _one_cycle(trainer, self._max_lr, self._total_steps, self._settings)
        self._write()

    def on_train_batch_end(self, *_: Any) -> None:
        self._step, self._seen = self.step, self._updates()
        self._write()

    def _updates(self) -> list[int]:
        return [updates(each) for each in self._optimizers]

    def _write(self) -> None:
        assert self.policy is not None
        self._hypers.write(self.policy(self._step))


def one_cycle(
    module: LightningModule,
    optimizer: torch.optim.Optimizer,
    max_lr: Any,
    total_steps: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What `configure_optimizers` returns to train with the 1cycle policy, without a callback.

    The scheduler steps once per update, not once per epoch as Lightning's schedulers do unless told, and
    does not step where a loss scaler has skipped the update.

    Args:
        module: the module, `self` in `configure_optimizers`.
        optimizer: whose hyper-parameters are set.
        max_lr: rate at the peak.
        total_steps: updates in all; None: as many as the trainer is going to make.
        **settings: see `onecycle.one_cycle`.

    Raises:
        ValueError: an argument is out of its range, or the trainer has no end and `total_steps` is None.
    """
    policy = _one_cycle(module.trainer, max_lr, total_steps, settings)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": UpdateScheduler(optimizer, policy), "interval": "step"},
    }


def _one_cycle(trainer: Trainer, max_lr: Any, total_steps: int | None, settings: Mapping[str, Any]) -> Policy:
    return _policies.one_cycle(max_lr, _length(trainer) if total_steps is None else total_steps, **settings)


def _length(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if not (math.isfinite(steps) and steps > 0):
        raise ValueError(
            "total_steps must be given, as the trainer does not tell it: "
            f"max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}, "
            f"{trainer.num_training_batches} batches"
        )
    return int(steps)


# Range tests -----------------------------------------------------------------------------------------


class RangeTest(Callback):
    """Runs a range test when a fit begins, or at epochs of your choice, and leaves all as it was.

    It trains on the model, optimizers and data of the fit at hand, mid-training too. Meanwhile callbacks
    and loggers are muted, and `self.log` does nothing; afterwards weights, optimizers, random generators
    and loss scaler are put back exactly.

    Args:
        apply: train on at the suggested rate, the ratios of groups and optimizers kept. Where the curve
            does not tell, a warning says so, and the rate stays. To train with the 1cycle policy leave
            this out and pass this callback to `OneCycle` as its `max_lr`.
        epochs: at whose beginnings to run.
        rule: the suggestion's rule: see `Curve.suggest`.
        log: log the suggestion with the trainer's loggers, as `range_test/max_lr`, `…/low`, `…/high`.
        loss: name under which `training_step` logs the loss to record; None: what it returns.
        monitor: name under which `validation_step` logs the validation loss to record; None: none.
        **settings: `start`, `end`, `steps`, `repeats`, `sweep`, `seed`, …: see `onecycle.range_test`.

    Attributes:
        curve: the latest curve, None before the first.
        suggestion: what it suggests, None before the first and where it does not tell.
        reason: why it does not tell.

    Raises:
        TypeError: a setting is none of `onecycle.range_test`'s.
        ValueError: a setting is out of its range, or, when the fit begins, `apply` is set and something
            else sets the rate too.
    """

    curve: Curve | None = None
    suggestion: Suggestion | None = None
    reason: str | None = None

    def __init__(
        self,
        *,
        apply: bool = False,
        epochs: Sequence[int] = (0,),
        rule: str | None = None,
        log: bool = False,
        loss: str | None = None,
        monitor: str | None = None,
        **settings: Any,
    ) -> None:
        known = inspect.signature(_range_test.range_test).parameters.keys() - {"trial"}
        if unknown := settings.keys() - known:
            raise TypeError(
                f"RangeTest knows no {min(unknown)!r}; its settings are {', '.join(sorted(known))}"
            )
        if apply and settings.get("hyper", "lr") != "lr":
            raise ValueError("apply sets the learning rate, and hyper is another: leave out apply")
        self._apply, self._rule, self._log = apply, rule, log
        self._epochs = set(epochs)
        self._names = {"loss": loss, "monitor": monitor}
        self._settings = {"progress": False, **settings}  # the trainer has a progress bar of its own
        self._done: set[int] = set()

    def __float__(self) -> float:
        """The suggested rate.

        Raises:
            Inconclusive: the curve does not tell.
            RuntimeError: there was no range test yet.
        """
        if self.curve is None:
            raise RuntimeError("the range test has not run yet: put RangeTest before OneCycle in callbacks")
        if self.suggestion is None:
            raise Inconclusive(self.reason or "")
        return float(self.suggestion)

    def state_dict(self) -> dict[str, Any]:
        return {
            "done": sorted(self._done),
            "curve": self.curve and self.curve.to_json(),
            "suggestion": self.suggestion and self.suggestion.to_json(),
            "reason": self.reason,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._done = set(state_dict["done"])
        curve, suggestion = state_dict["curve"], state_dict["suggestion"]
        self.curve = None if curve is None else Curve.from_json(curve)
        self.suggestion = None if suggestion is None else Suggestion.from_json(suggestion)
        self.reason = state_dict["reason"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        if stage == "fit" and trainer.global_step == 0:
            self._done = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if not self._apply:
            return
        rivals = [type(each.scheduler) for each in trainer.lr_scheduler_configs if not each.reduce_on_plateau]
        rivals += [type(each) for each in trainer.callbacks if isinstance(each, OneCycle)]
        if rivals:
            raise ValueError(
                f"RangeTest(apply=True) sets the rate, and {rivals[0].__name__} would overwrite it: "
                "use callbacks=[test := RangeTest(), OneCycle(test)], or leave out apply"
            )

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        epoch = trainer.current_epoch
        if epoch in self._epochs - self._done:
            self._done.add(epoch)
            with _trial(trainer, **self._names) as trial:
                self.curve = _range_test.range_test(trial, **self._settings)
            self._read(trainer)

    def _read(self, trainer: Trainer) -> None:
        assert self.curve is not None
        self.suggestion = self.reason = None
        try:
            self.suggestion = self.curve.suggest(self._rule)
        except Inconclusive as refusal:
            self.reason = refusal.reason
            if self._apply:
                rank_zero_warn(f"the range test does not tell, and the rate stays as it is: {self.reason}")
            else:
                rank_zero_info(f"the range test does not tell: {self.reason}")
            return
        rank_zero_info(f"range test: {self.suggestion}")
        if self._apply:
            Hypers(trainer.optimizers).write({"lr": self.suggestion.value})
        if self._log:
            names = (self.curve.hyper if self.curve.hyper != "lr" else "max_lr", "low", "high")
            values = (self.suggestion.value, self.suggestion.low, self.suggestion.high)
            metrics = {f"range_test/{name}": value for name, value in zip(names, values, strict=True)}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step)


def range_test(
    module: LightningModule | Trainer,
    data: Any = None,
    val_data: Any = None,
    *,
    trainer: Trainer | None = None,
    loss: str | None = None,
    monitor: str | None = None,
    **settings: Any,
) -> Curve:
    """Sweep the learning rate of a LightningModule and record the loss; all is put back after.

    In a fit, from `on_train_start` on, pass the module or its trainer alone. Outside of one, the module is
    fitted on one device by a trainer of this function's own, up to the first batch: its hooks run, as do
    the data module's.

    Args:
        module: what to train, or, within a fit, its trainer.
        data: a loader, a data module, or None: the module's own `train_dataloader`.
        val_data: likewise for validation, needed with `monitor`.
        trainer: yours, whose precision, accumulation, clipping and limits are taken over. It is not run.
        loss: name under which `training_step` logs the loss to record; None: what it returns.
        monitor: name under which `validation_step` logs the validation loss to record; None: none.
        **settings: see `onecycle.range_test`.

    Raises:
        TypeError: an argument is of the wrong kind; the message says which.
        ValueError: an argument is out of its range; the message names it.
        RuntimeError: called within a fit, but not from a training hook.
    """

    def work(running: Trainer) -> Curve:
        with _trial(running, loss, monitor) as trial:
            return _range_test.range_test(trial, **settings)

    return _within_fit(work, module, data, val_data, trainer, monitor)


def find_lr(
    module: LightningModule | Trainer,
    data: Any = None,
    val_data: Any = None,
    *,
    total_steps: int | None = None,
    budget: float = 0.2,
    objective: _find.Objective | None = None,
    seed: int = 0,
    progress: bool = True,
    trainer: Trainer | None = None,
    loss: str | None = None,
    monitor: str | None = None,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run: range test, then short pilots; all is put back after.

    Args:
        module, data, val_data, trainer, loss, monitor: see `range_test`.
        total_steps: length of the training that the rate is for; None: as many updates as the trainer is
            going to make.
        budget, objective, seed, progress: see `onecycle.find_lr`. The pilots are judged by the validation
            loss where there is a `monitor`.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        TypeError, ValueError, RuntimeError: see `range_test`; there is neither `total_steps` nor a trainer.
    """

    def work(running: Trainer) -> Suggestion:
        length = _length(running) if total_steps is None else total_steps
        with _trial(running, loss, monitor) as trial:
            return _find.find_lr(
                trial, total_steps=length, objective=objective, budget=budget, seed=seed, progress=progress
            )

    attached = isinstance(module, Trainer) or getattr(module, "_trainer", None) is not None
    if total_steps is None and trainer is None and not attached:
        raise ValueError("total_steps must be given, or the trainer that is to train: trainer=…")
    return _within_fit(work, module, data, val_data, trainer, monitor)


# The fit that a trial lives in -----------------------------------------------------------------------


def _within_fit(
    work: Callable[[Trainer], Result],
    subject: LightningModule | Trainer,
    data: Any,
    val_data: Any,
    like: Trainer | None,
    monitor: str | None,
) -> Result:
    """`work` on the trainer of the fit at hand, else on a private one in a fit that ends there."""
    if not isinstance(subject, (LightningModule, Trainer)):
        raise TypeError(
            "module must be a LightningModule of the package `lightning` (not `pytorch_lightning`), "
            f"or a Trainer of it, got {type(subject).__name__}"
        )
    running = subject if isinstance(subject, Trainer) else subject._trainer
    if running is not None and running.state.fn == "fit" and running.state.status == "running":
        if not running.training:
            raise RuntimeError("within a fit, call this from a training hook: on_train_start or later")
        if data is not None or val_data is not None:
            raise ValueError("data and val_data must be left out within a fit: it has its own")
        return work(running)
    if isinstance(subject, Trainer):
        if subject.lightning_module is None:
            raise TypeError("this trainer has no module yet: pass the module, and the trainer as trainer=…")
        subject = subject.lightning_module
    like = running if like is None else like
    visit = _Visit(work)
    with _unchanged(subject, data), _quiet():
        _private_trainer(visit, like, monitor is not None).fit(subject, data, val_data)
    if visit.error is not None:
        raise visit.error
    if not visit.results:
        raise ValueError("data gave no batch, so that there is nothing to train on")
    result: Result = visit.results[0]
    return result


class _Visit(Callback):
    """Does some work in place of the first batch, and ends the fit."""

    def __init__(self, work: Callable[[Trainer], Any]) -> None:
        self._work = work
        self.results: list[Any] = []
        self.error: BaseException | None = None

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        try:
            self.results.append(self._work(trainer))
        except BaseException as error:  # noqa: BLE001 - raised again once the fit has ended in good order
            self.error = error
        raise _TunerExitException


def _private_trainer(visit: Callback, like: Trainer | None, validates: bool) -> Trainer:
    taken_over = (
        "accelerator",
        "accumulate_grad_batches",
        "gradient_clip_algorithm",
        "gradient_clip_val",
        "limit_train_batches",
        "max_epochs",
        "max_steps",
        "precision",
    )
    settings = {name: getattr(like, name) for name in taken_over} if like is not None else {"max_epochs": 1}
    if not validates:
        settings["limit_val_batches"] = 0
    elif like is not None:
        settings["limit_val_batches"] = like.limit_val_batches
    return Trainer(
        **settings,
        devices=1,
        callbacks=[visit],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def _unchanged(module: LightningModule, data: Any) -> Iterator[None]:
    """Give a module, and what feeds it, back to the trainer, device and state that they had."""
    owners: list[Any] = [module, *([data] if isinstance(data, LightningDataModule) else [])]
    trainers = [module._trainer, getattr(data, "trainer", None)]
    device = module.device
    modules = list(module.modules())
    generators = find(GENERATORS, data, *map(vars, modules))
    attributes = [keep_attributes(each, OF_MODULES) for each in modules]
    sources = keep_random(generators)
    try:
        yield
    finally:
        if module.device != device:
            module.to(device)
        for owner, trainer in zip(owners, trainers, strict=False):
            owner.trainer = trainer
        for each, kept in zip(modules, attributes, strict=True):
            put_back_into(vars(each), kept, OF_MODULES)
        put_back_random(generators, sources)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says about a trainer of one's own."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            yield
    finally:
        logger.setLevel(level)


# The trial -------------------------------------------------------------------------------------------


@contextmanager
def _trial(trainer: Trainer, loss: str | None, monitor: str | None) -> Iterator[Trial]:
    """A trial on what `trainer` is fitting, its callbacks and loggers muted for as long."""
    logged: dict[str, Any] = {}
    modules = [each for each in trainer.lightning_module.modules() if isinstance(each, LightningModule)]
    callbacks, loggers, should_stop = trainer.callbacks, trainer.loggers, trainer.should_stop
    trainer.callbacks, trainer.loggers = [], [DummyLogger() for _ in loggers]
    for module in modules:
        module.log = lambda name, value, *_, **__: logged.update({name: value})
    try:
        yield Trial(trainer, logged, loss, monitor)
    finally:
        for module in modules:
            del module.log
        trainer.callbacks, trainer.loggers, trainer.should_stop = callbacks, loggers, should_stop


class Trial(UpdateTrial):
    """The module that a trainer is fitting, trained by the trainer's own strategy and precision."""

    def __init__(
        self, trainer: Trainer, logged: dict[str, Any], loss: str | None, monitor: str | None
    ) -> None:
        self._trainer = trainer
        self._module = trainer.lightning_module
        self._logged = logged
        self._loss_name, self._monitor = loss, monitor
        super().__init__(self._module, trainer.optimizers, None, _Batches(trainer))
        self._accumulate = trainer.accumulate_grad_batches
        self._takes_index = _arguments(self._module.training_step) > 1
        if "dataloader_iter" in inspect.signature(self._module.training_step).parameters:
            raise TypeError("training_step takes a dataloader_iter, which cannot be given to a range test")

    def step(self) -> Tensor:
        """Train until an optimizer has made an update; the mean loss of the batches that it took.

        Raises:
            TypeError: `training_step` gives no loss.
            ValueError: no optimizer makes an update.
        """
        loss = super().step()
        # All processes see the same loss, and so stop at the same step.
        reduced = self._trainer.strategy.reduce(loss, reduce_op="mean")
        return reduced if isinstance(reduced, Tensor) else loss

    @torch.no_grad()
    def evaluate(self) -> float | None:
        """Mean over the validation set of what `validation_step` logs as `monitor`; None without one.

        Raises:
            ValueError: there is no validation set, or `monitor` is not logged in `validation_step`.
        """
        if self._monitor is None:
            return None
        sources = self._stream.keep_sources()
        modes = [module.training for module in self._modules]
        self._module.eval()
        self._trainer.validating = True
        total = count = 0.0
        try:
            for batch, *indices in self._validation_batches():
                batch = self._to_device(batch)
                self._logged.clear()
                self._trainer.strategy.validation_step(batch, *indices)
                if self._monitor not in self._logged:
                    raise ValueError(
                        f"monitor {self._monitor!r} is not logged in validation_step, which logs "
                        f"{', '.join(map(repr, self._logged)) or 'nothing'}"
                    )
                size = _samples(batch)
                total += size * float(self._logged[self._monitor])
                count += size
        finally:
            self._trainer.training = True
            for module, mode in zip(self._modules, modes, strict=True):
                module.training = mode
            self._stream.put_back_sources(sources)
        if not count:
            raise ValueError("monitor needs validation data, and the fit has none")
        mean = torch.tensor(total / count, device=self._module.device)
        return float(self._trainer.strategy.reduce(mean, reduce_op="mean"))

    def save(self) -> Tree:
        """As every trial, and with loss scaler and schedulers."""
        return {
            **super().save(),
            "precision": copy.deepcopy(self._trainer.precision_plugin.state_dict()),
            "schedulers": [
                (dict(vars(each)), copy.deepcopy(each.state_dict())) for each in self._schedulers()
            ],
        }

    def restore(self, state: Tree) -> None:
        """Put all that `save` kept back in its place."""
        for scheduler, (attributes, kept) in zip(self._schedulers(), state["schedulers"], strict=True):
            vars(scheduler).update(attributes)
            scheduler.load_state_dict(copy.deepcopy(kept))
        self._trainer.precision_plugin.load_state_dict(copy.deepcopy(state["precision"]))
        super().restore(state)

    def _schedulers(self) -> list[Any]:
        return [config.scheduler for config in self._trainer.lr_scheduler_configs]

    def _to_device(self, batch: Any) -> Any:
        batch = self._trainer.precision_plugin.convert_input(batch)
        batch = self._module._on_before_batch_transfer(batch, dataloader_idx=0)
        return self._trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def _train(self) -> list[Tensor]:
        return self._automatic() if self._module.automatic_optimization else self._manual()

    def _manual(self) -> list[Tensor]:
        return [self._loss_of(self._training_step(self._batch())).detach()]

    def _automatic(self) -> list[Tensor]:
        """One optimizer step as the trainer does it, after as many batches as it accumulates."""
        module, strategy = self._module, self._trainer.strategy
        (optimizer,) = self._optimizers
        losses: dict[int, Tensor] = {}

        def closure(number: int, batch: Any) -> Tensor | None:
            output = self._training_step(batch)
            if number == 0:
                module.on_before_zero_grad(optimizer)
                module.optimizer_zero_grad(module.current_epoch, self._index, optimizer)
            if output is None:  # this batch is to be passed over
                return None
            losses.setdefault(number, self._loss_of(output).detach())
            loss = output if isinstance(output, Tensor) else output["loss"]
            scaled: Tensor = strategy.backward(loss / self._accumulate, optimizer)
            return scaled

        last = self._accumulate - 1
        for number in range(last):
            closure(number, self._batch())
        batch = self._batch()
        module.optimizer_step(
            module.current_epoch,
            self._index,
            module.optimizers(),
            lambda: closure(last, batch),  # which LBFGS calls more than once
        )
        return list(losses.values())

    @property
    def _index(self) -> int:
        return self._stream._taken - 1

    def _batch(self) -> Any:
        batch = self._to_device(next(self._stream))
        self._batch_size = self._batch_size or _samples(batch)
        return batch

    def _training_step(self, batch: Any) -> Any:
        self._logged.clear()
        arguments = (batch, self._index) if self._takes_index else (batch,)
        return self._trainer.strategy.training_step(*arguments)

    def _loss_of(self, output: Any) -> Tensor:
        """The loss to record."""
        if self._loss_name is not None:
            loss = self._logged.get(self._loss_name)
            where = f"log {self._loss_name!r}, the name that is given as loss"
        else:
            loss = output.get("loss") if isinstance(output, Mapping) else output
            where = "return the loss, or log it under a name that is given as loss=…"
        if loss is None:
            raise TypeError(f"training_step must {where}")
        return torch.as_tensor(loss, device=self._module.device).float().reshape(())

    def _validation_batches(self) -> Iterator[tuple[Any, ...]]:
        loop = self._trainer.fit_loop.epoch_loop.val_loop
        if loop._data_source.is_defined():
            loop.setup_data()
        loaders = [] if loop._combined_loader is None else loop._combined_loader.flattened
        several = _arguments(self._module.validation_step) > 2
        for number, (loader, most) in enumerate(zip(loaders, loop.max_batches, strict=False)):
            batches = islice(private(loader), None if math.isinf(most) else int(most))
            for index, batch in enumerate(batches):
                yield (batch, index, number) if several else (batch, index)


class _Batches:
    """The training batches of a fit, an epoch at each iteration, apart from the fit's own iterator."""

    def __init__(self, trainer: Trainer) -> None:
        combined = trainer.fit_loop._combined_loader
        if combined is None or not trainer.optimizers:
            raise RuntimeError(
                "the fit has no data or no optimizer yet: call this from on_train_start or later"
            )
        self.loaders = combined.flattened
        self._combined = combined
        self._most = trainer.num_training_batches
        if len(self.loaders) == 1:
            for name in ("batch_sampler", "batch_size", "sampler"):
                if hasattr(self.loaders[0], name):
                    setattr(self, name, getattr(self.loaders[0], name))

    def __iter__(self) -> Iterator[Any]:
        combined = copy.copy(self._combined)
        combined.flattened = [private(loader) for loader in self.loaders]
        most = None if math.isinf(self._most) else int(self._most)
        return (batch for batch, _, _ in islice(combined, most))


def _arguments(function: Callable[..., Any]) -> int:
    """How many arguments `function` takes by position."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 99
    return sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
