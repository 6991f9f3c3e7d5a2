"""Range tests: a callback for a fit, and helpers within a fit or without one."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import _TunerExitException
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from onecycle import _find, _range_test
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._suggestion import Suggestion
from onecycle.lightning._policy import OneCycle, length
from onecycle.lightning._trial import trial_of
from onecycle.torch._hypers import Hypers
from onecycle.torch._objects import find
from onecycle.torch._random import GENERATORS, keep_random, put_back_random
from onecycle.torch._state import OF_MODULES, keep_attributes, put_back_into

Result = TypeVar("Result")


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
            with trial_of(trainer, **self._names) as trial:
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
        with trial_of(running, loss, monitor) as trial:
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
        steps = length(running) if total_steps is None else total_steps
        with trial_of(running, loss, monitor) as trial:
            return _find.find_lr(
                trial, total_steps=steps, objective=objective, budget=budget, seed=seed, progress=progress
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
