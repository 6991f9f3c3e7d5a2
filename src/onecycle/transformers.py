"""Hugging Face Transformers: the 1cycle policy, range tests and found rates for a `Trainer`."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import onecycle
from onecycle import _find, _range_test
from onecycle._curve import Curve
from onecycle._policy import Policy
from onecycle._suggestion import Suggestion
from onecycle.torch import Scheduler
from onecycle.torch._random import keep_random, put_back_random

try:
    from transformers import Trainer

    from onecycle.accelerate import SHARDED, Epochs, Trial
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.transformers needs Transformers ({error}): pip install 'onecycle[transformers]'",
        name=error.name,
    ) from error

__all__ = ["find_lr", "one_cycle", "range_test", "with_policy"]

T = TypeVar("T", bound=Trainer)


def one_cycle(trainer: T, max_lr: float | None = None, **settings: Any) -> T:
    """Have `trainer` train with the 1cycle policy over all its updates, however it counts them.

    Args:
        trainer: any `Trainer`, also of a subclass, or with `model_init` for a search.
        max_lr: the peak rate; None: `args.learning_rate`, also when a search changes that.
        **settings: `min_lr`, `final_lr`, `tail`, `peak`, `momentum` (which is the first of Adam's betas),
            `shape`, `form`: see `onecycle.one_cycle`.

    Returns:
        The trainer.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    def policy(total_steps: int) -> Policy:
        peak = trainer.args.learning_rate if max_lr is None else max_lr
        return onecycle.one_cycle(peak, total_steps, **settings)

    policy(1000)  # so that a wrong setting is found here, not once training begins
    return with_policy(trainer, policy)


def with_policy(trainer: T, policy: Policy | Callable[[int], Policy]) -> T:
    """Have `trainer` train with `policy`, in place of the schedule that its arguments name.

    Every `train()` begins the policy anew, and goes on where a checkpoint that it resumes from ended. The
    `learning_rate` in the logs is the one that was used; groups of parameters keep their ratios.

    Args:
        trainer: any `Trainer`.
        policy: a `Policy`, or a function that gives one for the count of updates that the trainer makes.

    Returns:
        The trainer.

    Raises:
        TypeError: `policy` is neither.
    """
    if not callable(policy):
        raise TypeError(
            "policy must be a Policy or a function from the count of updates to one, "
            f"got {type(policy).__name__}: see onecycle.one_cycle and onecycle.cyclical"
        )

    def create_scheduler(num_training_steps: int, optimizer: Optimizer | None = None) -> Scheduler:
        if trainer.lr_scheduler is not None and not isinstance(trainer.lr_scheduler, Scheduler):
            raise ValueError(
                "trainer has a scheduler of its own: give none in optimizers=, or leave out with_policy"
            )
        values = policy if isinstance(policy, Policy) else policy(num_training_steps)
        used = trainer.optimizer if optimizer is None else optimizer
        trainer.lr_scheduler = scheduler = Scheduler(getattr(used, "optimizer", used), values)
        return scheduler

    # On the object, so that it works for a trainer of any class.
    vars(trainer)["create_scheduler"] = create_scheduler
    return trainer


def range_test(trainer: Trainer, *, evaluations: int = 0, progress: bool = True, **settings: Any) -> Curve:
    """Sweep the learning rate (or momentum, or weight decay) and record the loss; all is put back after.

    Each step is an update as `trainer` makes them, with its optimizer, collator, loss, accumulation,
    clipping and precision. No callback is called, nothing is logged or saved, and a loss that is not
    finite is seen as it is. With several processes, call it on each; all get the same curve.

    Args:
        trainer: fresh or trained; it stays as it is.
        evaluations: how often, evenly spread, the loss on `eval_dataset` is measured.
        progress: show the sweep while it runs, on the main process alone.
        **settings: `start`, `end`, `steps`, `repeats`, `sweep`, `hyper`, `seed`, `batches_per_value` (here:
            updates): see `onecycle.range_test`.

    Raises:
        ValueError: an argument is out of its range, or the trainer shards its model.
    """
    with _trial(trainer, validate=evaluations > 0) as trial:
        return _range_test.range_test(
            trial,
            evaluations=evaluations,
            progress=progress and trainer.is_world_process_zero(),
            **settings,
        )


def find_lr(
    trainer: Trainer,
    *,
    total_steps: int | None = None,
    objective: _find.Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `trainer`: range test, then short pilots.

    Args:
        trainer: fresh or trained; it stays as it is.
        total_steps: updates of the training that the rate is for; None: as many as `trainer` will make.
        objective: "val", the loss on `eval_dataset`, or "train"; None: "val" where there is that.
        budget: share of `total_steps` that may be spent, > 0. Fine-tuning is often so short that it takes 1
            and more for a rate that was tried, not just read.
        seed: of the random generators and the data order.
        progress: show what runs, on the main process alone.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        ValueError: an argument is out of its range, or the trainer shards its model.
    """
    with _trial(trainer, validate=objective != "train") as trial:
        if total_steps is None:
            total_steps = trainer.args.max_steps
        if total_steps < 0:  # the Trainer's word for: as many as the epochs have
            total_steps = math.ceil(trainer.args.num_train_epochs * len(trial.updates))
        return _find.find_lr(
            trial,
            total_steps=total_steps,
            objective=objective,
            budget=budget,
            seed=seed,
            progress=progress and trainer.is_world_process_zero(),
        )


class _Trial(Trial):
    """Updates as a `Trainer` makes them; its model and optimizer are prepared by its accelerator."""

    def __init__(self, trainer: Trainer, model: nn.Module, optimizer: Optimizer, validate: bool) -> None:
        self._trainer = trainer
        self.updates = _Updates(trainer)
        val_loader = _Validation(trainer) if validate and trainer.eval_dataset is not None else None
        super().__init__(trainer.accelerator, model, optimizer, None, self.updates.loader, val_loader)

    def _epochs(self, loader: Any) -> Epochs:  # noqa: ARG002 - the same that `updates` groups
        return self.updates

    def _train_on(self, update: Any) -> Tensor:
        """One update as in `Trainer._run_epoch`, without callbacks and logs."""
        trainer, accelerator, (batches, num_items) = self._trainer, self._accelerator, update
        trainer.current_gradient_accumulation_steps = len(batches)
        loss = torch.zeros((), device=self._device)
        for left, batch in zip(reversed(range(len(batches))), batches, strict=True):
            accelerator.gradient_state._set_sync_gradients(left == 0)
            with accelerator.no_sync(self._model) if left else nullcontext():
                loss = loss + trainer.training_step(self._model, batch, num_items)
        if trainer.args.max_grad_norm > 0:
            accelerator.clip_grad_norm_(self._model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        self._model.zero_grad()
        return loss

    def _forward(self, batch: Any) -> tuple[Any, Any]:
        loss, _, _ = self._trainer.prediction_step(self._model, batch, prediction_loss_only=True)
        if loss is None:
            raise ValueError("eval_dataset has no labels, and so no loss: pass objective='train'")
        return loss, batch

    def _loss(self, output: Any, target: Any) -> Any:  # noqa: ARG002 - `_forward` has it already
        return output


class _Updates(Epochs):
    """The trainer's batches in groups of one update each, and with each group what its loss is divided by."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer.get_train_dataloader(), accumulate=1)
        self._trainer = trainer
        self._batches: int = trainer.args.gradient_accumulation_steps
        self.batch_size = trainer.args.train_batch_size * self._batches * trainer.args.world_size

    def __len__(self) -> int:
        return math.ceil(super().__len__() / self._batches)

    def __iter__(self) -> Iterator[Any]:
        batches = super().__iter__()
        while True:
            update = self._trainer.get_batch_samples(batches, self._batches, self._trainer.args.device)
            if not update[0]:
                return
            yield update


class _Validation:
    """The trainer's batches for evaluation; those of several data sets one after the other."""

    def __init__(self, trainer: Trainer) -> None:
        names = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else [None]
        self.datasets = self._loaders = [trainer.get_eval_dataloader(name) for name in names]

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._loaders)


@contextmanager
def _trial(trainer: Trainer, validate: bool) -> Iterator[_Trial]:
    """A trial of what `trainer` would train, which leaves the trainer none the wiser."""
    accelerator = trainer.accelerator
    if accelerator.distributed_type in SHARDED:
        raise ValueError(
            f"trainer shards its model ({accelerator.distributed_type}), and no process could put all of it "
            "back: run this without sharding, on one process or under DDP"
        )
    random = keep_random([])
    with _unchanged(trainer, trainer.model, trainer.state, accelerator, accelerator.gradient_state):
        try:
            optimizer = trainer.create_optimizer()
            model = trainer._wrap_model(trainer.model_wrapped)
            if model is trainer.model:
                model, optimizer = accelerator.prepare(model, optimizer)
            else:
                optimizer = accelerator.prepare(optimizer)
            trainer.optimizer = optimizer
            yield _Trial(trainer, model, optimizer, validate)
        finally:
            put_back_random([], random)


@contextmanager
def _unchanged(*things: Any) -> Iterator[None]:
    """Give each thing the attributes back that it had, and the containers among them their items."""
    kept = {id(each): (each, copy.copy(each)) for thing in things for each in _containers(vars(thing))}
    try:
        yield
    finally:
        for each, before in kept.values():
            each.clear()
            (each.update if isinstance(each, dict) else each.extend)(before)


def _containers(value: Any, seen: tuple[int, ...] = ()) -> Iterator[Any]:
    """Dicts, lists and queues within dicts; what a list holds may be all of the data."""
    if isinstance(value, (dict, list, deque)) and id(value) not in seen:
        yield value
    if isinstance(value, dict) and id(value) not in seen:
        for item in value.values():
            yield from _containers(item, (*seen, id(value)))
