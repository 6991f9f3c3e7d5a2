"""Ignite: a handler that trains with a policy, and a trial around an engine, in a few lines each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

try:
    from ignite.engine import Engine, Events
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.ignite needs Ignite ({error}): pip install 'onecycle[ignite]'", name=error.name
    ) from error

from onecycle._policy import Policy
from onecycle.torch import Scheduler
from onecycle.torch._state import Tree
from onecycle.torch._updates import UpdateScheduler, UpdateTrial

__all__ = ["Trial", "attach"]


def attach(
    trainer: Engine,
    optimizer: Optimizer,
    policy: Policy | Callable[[int], Mapping[str, float]],
    *,
    start_step: int = 0,
) -> Scheduler:
    """Have `trainer` set `optimizer` from `policy`, one step per update that it really makes.

    Iterations that accumulate gradients or that a loss scaler skips are no steps.

    Args:
        trainer: the engine that trains.
        optimizer: whose hyper-parameters are set.
        policy: a `Policy`, or any callable from step to a dict.
        start_step: completed updates so far.

    Returns:
        The scheduler; put it into the `to_save` of Ignite's `Checkpoint`, and it is resumed with the rest.

    Raises:
        TypeError, ValueError: see `onecycle.torch.Scheduler`.
    """
    scheduler = UpdateScheduler(optimizer, policy, start_step=start_step)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: scheduler.step())
    return scheduler


class Trial(UpdateTrial):
    """The process function of an engine as a trial, for `onecycle.range_test` and `onecycle.find_lr`.

    No handler is run: neither checkpoints nor loggers nor early stopping see anything of it.

    Args:
        trainer: the engine that trains.
        model, optimizer, train_loader: what it trains, and on what; see `onecycle.torch.Trial`.
        loss: the loss to record, from what the process function returns; None: that is the loss.
        scaler: the loss scaler that the process function uses, which is put back too.

    Raises:
        TypeError, ValueError: see `onecycle.torch.Trial`.
    """

    def __init__(
        self,
        trainer: Engine,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        train_loader: Iterable[Any],
        *,
        loss: Callable[[Any], Any] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        def step(batch: Any) -> Any:
            trainer.state.iteration += 1
            output = trainer._process_function(trainer, batch)
            return output if loss is None else loss(output)

        super().__init__(model, optimizer, None, train_loader, step=step)
        self._state = trainer.state
        self._scaler = scaler
        if scaler is not None and scaler not in self._scalers:
            self._scalers = [*self._scalers, scaler]

    def save(self) -> Tree:
        """As every trial, and with the engine's state."""
        return {**super().save(), "engine": dict(vars(self._state))}

    def restore(self, state: Tree) -> None:
        """Put all that `save` kept back in its place."""
        vars(self._state).clear()
        vars(self._state).update(state["engine"])
        super().restore(state)

    def seed(self, seed: int) -> None:
        """Seed every random generator, and start data and iterations anew."""
        super().seed(seed)
        self._state.iteration = 0
