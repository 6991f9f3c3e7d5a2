"""What a trial is given, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as brief
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from onecycle._range_test import SINGLE
from onecycle.torch._batch import batches_in
from onecycle.torch._room import PLACES

Amp = bool | str | torch.dtype | torch.amp.GradScaler | None


def check_model(model: object) -> None:
    """Raise unless it is a module of torch."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def parameters_of(model: nn.Module) -> list[nn.Parameter]:
    """All of them, as they are once made."""
    parameters = list(model.parameters())
    if any(map(is_lazy, parameters)):
        raise ValueError("model has lazy parameters that are not yet made: run one batch through it first")
    return parameters


def optimizers_of(optimizer: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    """One optimizer, or a list of them, as a list."""
    optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    candidates: list[Any] = optimizers or [optimizer]
    for each in candidates:
        if not hasattr(each, "param_groups"):
            where = "" if each is optimizer else f" in a {type(optimizer).__name__}"
            raise TypeError(
                f"optimizer must be a torch optimizer or a list of them, got {brief(each)}{where}"
            )
    return optimizers


def check_loader(loader: Any, name: str) -> None:
    """Raise unless it can be iterated, and does not say that it is empty."""
    if not isinstance(loader, Iterable):
        raise TypeError(f"{name} must be an iterable of batches, got {type(loader).__name__}")
    if batches_in(loader) == 0:
        raise ValueError(
            f"{name} is empty: give one with a batch (a data set below one, with drop_last=True?)"
        )


def check_metrics(metrics: Any) -> None:
    """Raise unless they are functions by name, or none."""
    if not isinstance(metrics, Mapping | None) or not all(map(callable, (metrics or {}).values())):
        raise TypeError(f"metrics must be a dict of functions by name or None, got {metrics!r:.60}")


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


def check_place(keep_on: object) -> None:
    """Raise unless copies can be kept there."""
    if keep_on is not None and keep_on not in PLACES:
        raise ValueError(f"keep_on must be {', '.join(map(repr, PLACES))} or None, got {keep_on!r:.60}")


def check_left_to(step: object, accumulate: int, clip_grad_norm: float | None, amp: Amp) -> None:
    """Raise where a trial is to do what its own `step` does."""
    if accumulate > 1 or clip_grad_norm is not None or amp is not None:
        raise ValueError(
            "step does its own forward, backward and update: do accumulate, clip_grad_norm and amp in it "
            f"and leave them out here, got {step!r:.60} with {accumulate=}, {clip_grad_norm=}, {amp=}"
        )


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
