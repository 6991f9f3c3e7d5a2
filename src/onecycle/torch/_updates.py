"""For loops of others, which decide by themselves when an optimizer makes an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.optim import Optimizer

from onecycle._policy import Policy
from onecycle.torch._arguments import scalar
from onecycle.torch._scheduler import Scheduler
from onecycle.torch._trial import Trial

MOST_BATCHES = 64  # without an update, after which a trial gives up; a loss scaler skips 32 at most


def updates(optimizer: Optimizer) -> int:
    """Updates that `optimizer` has really made since this was first asked.

    A step that a loss scaler skips is none. The count lies on the optimizer, where a trial keeps it and
    puts it back with everything else.

    Raises:
        TypeError: `optimizer` is none of torch's, and has no hook after its step.
    """
    if not hasattr(optimizer, "_onecycle_hook"):
        if not hasattr(optimizer, "register_step_post_hook"):
            raise TypeError(
                f"optimizer must be a torch optimizer, got {type(optimizer).__name__}, "
                "which does not tell when it has made a step"
            )
        optimizer._onecycle_hook = optimizer.register_step_post_hook(_count)  # type: ignore[attr-defined]
    return getattr(optimizer, "_onecycle_updates", 0)


def _count(optimizer: Any, *_: object) -> None:
    # A fused optimizer skips the update itself, when a GradScaler tells it that a gradient is not finite.
    found_inf = getattr(optimizer, "found_inf", None)
    if found_inf is None or not found_inf:
        optimizer._onecycle_updates = getattr(optimizer, "_onecycle_updates", 0) + 1


class UpdateScheduler(Scheduler):
    """A scheduler whose `step()`, called after every batch, counts only where there was an update."""

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy | Callable[[int], Mapping[str, float]],
        *,
        start_step: SupportsIndex = 0,
    ) -> None:
        self._seen = updates(optimizer)
        super().__init__(optimizer, policy, start_step=start_step)

    def step(self, epoch: int | None = None) -> None:
        """Count one more update if the optimizer has made one since this was last called."""
        seen, self._seen = self._seen, updates(self.optimizer)
        if self._seen != seen or epoch is not None:
            super().step(epoch)


class UpdateTrial(Trial):
    """A trial whose own `step` may take several batches before an optimizer makes an update.

    Its loss is the mean of theirs; where no optimizer makes an update, `step` raises a ValueError.
    """

    def _step(self) -> Tensor:
        losses: list[Tensor] = []
        before = self._updates()
        for _ in range(MOST_BATCHES):
            losses += self._train()
            if losses and self._updates() != before:
                return torch.stack(losses).mean()
        if losses and not all(map(torch.isfinite, losses)):
            return losses[-1]
        raise ValueError(
            f"no optimizer made an update in {MOST_BATCHES} batches: the training step must make one"
        )

    def _train(self) -> list[Tensor]:
        """Train on the next batch or batches; their losses."""
        assert self._own_step is not None
        return [scalar(self._own_step(self._next_batch()), "step").detach()]

    def _updates(self) -> list[int]:
        return [updates(each) for each in self._optimizers]
