"""Training with a policy: a callback, and a scheduler for `configure_optimizers`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from onecycle import _policies
from onecycle._policy import Policy, check_policy
from onecycle.torch._hypers import Hypers
from onecycle.torch._updates import UpdateScheduler, updates


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
            check_policy(policy)
        elif not isinstance(max_lr, Callback):  # a RangeTest, whose rate is not known yet
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
    return _policies.one_cycle(max_lr, length(trainer) if total_steps is None else total_steps, **settings)


def length(trainer: Trainer) -> int:
    """The updates that a trainer is going to make.

    Raises:
        ValueError: it does not tell.
    """
    steps = trainer.estimated_stepping_batches
    if not (math.isfinite(steps) and steps > 0):
        raise ValueError(
            "total_steps must be given, as the trainer does not tell it: "
            f"max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}, "
            f"{trainer.num_training_batches} batches"
        )
    return int(steps)
