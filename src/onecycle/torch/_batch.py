"""What loaders and batches of any form tell of themselves, and how a batch comes to a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any

import torch
from torch import Tensor

PARTS = (tuple, list, Mapping)


def batches_in(loader: Iterable[Any]) -> int | None:
    """Batches of a loader, None where it does not tell."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader over a data set without length
        return None


def batch_size_of(loader: Iterable[Any]) -> int | None:
    """Samples in each batch of a loader, None where it does not tell."""
    for holder in (loader, getattr(loader, "batch_sampler", None)):
        size = getattr(holder, "batch_size", None)
        if isinstance(size, int):
            return size
    return None


def samples_in(batch: Any) -> int:
    """Samples of a batch: the length of the first tensor in it, or of the first list of other things."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    items = list(batch.values() if isinstance(batch, Mapping) else batch) if isinstance(batch, PARTS) else []
    return next(
        (samples_in(item) for item in items if isinstance(item, (Tensor, *PARTS))), max(len(items), 1)
    )


def on_device(batch: Any, device: torch.device) -> Any:
    """`batch` with every tensor in its tuples, lists and dicts on `device`."""
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if type(batch) in (tuple, list):
        for item in batch:
            if not isinstance(item, Tensor) or item.device != device:
                return type(batch)([on_device(item, device) for item in batch])
        return batch
    if hasattr(batch, "to") and callable(batch.to):
        return batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(on_device(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(on_device(item, device) for item in batch)
    if isinstance(batch, dict):
        return {key: on_device(item, device) for key, item in batch.items()}
    return batch
