from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


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
