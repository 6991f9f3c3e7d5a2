"""What a trial is given, checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onecycle._range_test import SINGLE

Amp = bool | str | torch.dtype | torch.amp.GradScaler | None


def precision(amp: Amp, device: torch.device) -> tuple[torch.dtype | None, torch.amp.GradScaler | None]:
    """The type to autocast to and the loss scaler, None where there is none."""
    if amp is None or amp is False:
        return None, None
    if isinstance(amp, torch.amp.GradScaler):
        return torch.float16, amp
    if amp is True:
        amp = "fp16" if device.type == "cuda" else "bf16"
    names: dict[Any, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = names.get(amp) if isinstance(amp, str) else amp
    if not isinstance(dtype, torch.dtype) or dtype not in names.values():
        raise ValueError(
            f"amp must be 'bf16', 'fp16', their torch dtype, a GradScaler or None, got {amp!r:.60}"
        )
    return dtype, torch.amp.GradScaler(device.type) if dtype == torch.float16 else None


def device_of(device: torch.device | str | None, default: torch.device | str) -> torch.device:
    """As torch knows it."""
    try:
        return torch.device(default if device is None else device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"device must be a torch device such as 'cpu' or 'cuda', got {device!r}") from error


def check_norm(clip_grad_norm: float | None) -> None:
    """Raise unless gradients can be clipped to that norm, or are not to be."""
    if clip_grad_norm is None:
        return
    if not isinstance(clip_grad_norm, (int, float, np.number)):
        raise TypeError(f"clip_grad_norm must be a number or None, got {type(clip_grad_norm).__name__}")
    if not (0 < clip_grad_norm <= SINGLE or clip_grad_norm == math.inf):
        raise ValueError(f"clip_grad_norm must be > 0 or None, got {clip_grad_norm!r:.60}")


def differentiable(loss: Any) -> Tensor:
    """A training loss as a scalar that can be differentiated."""
    found = scalar(loss, "loss_fn")
    if not found.requires_grad:
        raise ValueError(
            "loss_fn gave a loss without a gradient: compute it from the model's output in torch "
            "without detach(), item() or no_grad(), or pass step for a loop of your own"
        )
    return found


def scalar(loss: Any, name: str) -> Tensor:
    """A loss that the function `name` gave, without dimensions."""
    if not isinstance(loss, Tensor):
        if isinstance(loss, (int, float)):
            return torch.tensor(float(loss))
        raise ValueError(f"{name} must give a scalar tensor, got {type(loss).__name__}")
    if loss.numel() != 1:
        raise ValueError(
            f"{name} must give a scalar, got a tensor of shape {tuple(loss.shape)}: "
            "take its mean, or use reduction='mean'"
        )
    return loss if loss.ndim == 0 else loss.reshape(())  # a view is one more step back
