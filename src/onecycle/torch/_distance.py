"""How far the weights that are trained have moved from those of a state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from onecycle._moves import ratio
from onecycle.torch._processes import Processes
from onecycle.torch._room import OnDisk

Content = Tensor | OnDisk
PIECE = 2**18  # elements that are compared at once
_KNOWN = "distance"  # in a state that was asked: the weights that it is measured by


def moved(state: Any, optimizers: Iterable[Optimizer], processes: Processes, device: torch.device) -> float:
    """How far the weights lie from those of `state`, as a share of the size there of what has moved.

    The norms are Euclidean, over all `processes`, which talk over `device`. What has not moved counts
    nothing, such as the rows of words that never came, nor does a tensor that began at zero, of whose size
    no share can be told. NaN where most of the weights began at zero, where none is trained, where what is
    on a GPU has its copy on disk, and of tensors of a kind that cannot be compared.

    Args:
        state: what was saved.
        optimizers: all whose parameters are the weights that are trained.
        processes: that train the model together.
        device: over which they talk.
    """
    # A measure that fails is no reason to lose the sweep, and each process has to take part in the sum.
    try:
        sums = _sums(state, optimizers)
    except (NotImplementedError, RuntimeError):
        sums = None
    if sums is None:
        sums = torch.full((4,), math.nan, device=device)
    sums = (processes.sum if processes.sharded else processes.mean)(sums.float(), device)
    return ratio(*sums.tolist())


def _sums(state: Any, optimizers: Iterable[Optimizer]) -> Tensor | None:
    """Squared norms of how far the weights have moved and of what these were, and their numbers, or None.

    The numbers are of the elements of what did not begin at zero, and of all.
    """
    if not isinstance(state, dict) or "parameters" not in state:
        return None
    if _KNOWN not in state:
        state[_KNOWN] = _measured_by(state["parameters"], optimizers)
    if state[_KNOWN] is None:
        return None
    pairs, counts = state[_KNOWN]
    # Of a sharded model a process may hold nothing, and the others' part still counts.
    sums = [_compared(homes, content) for homes, content in pairs] or [torch.zeros(2)]
    total = torch.stack([each.to(sums[0]) for each in sums]).sum(0)
    return torch.cat([total, total.new_tensor(counts)])


def _measured_by(
    parameters: dict[str, Any], optimizers: Iterable[Optimizer]
) -> tuple[list[tuple[list[Tensor], Content]], tuple[int, int]] | None:
    """The weights with their copies, but those that began at zero, and the numbers of elements."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    kept = [parts["data"] for parts in parameters.values() if parts["requires_grad"]]
    pairs = [(each.home, each.content) for each in kept if id(each.home) in trained and not each.home.is_meta]
    if any(isinstance(content, OnDisk) and home.is_cuda for home, content in pairs):
        return None
    began = [(home, content) for home, content in pairs if _is_any(home, content)]
    told, count = (sum(_local(home).numel() for home, _ in each) for each in (began, pairs))
    return _together(began), (told, count)


def _together(pairs: list[tuple[Tensor, Content]]) -> list[tuple[list[Tensor], Content]]:
    """Small ones of a kind as one, up to PIECE elements in all: a tiny net feels each call."""
    alike: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    found: list[tuple[list[Tensor], Content]] = []
    room = PIECE
    for home, content in sorted(pairs, key=lambda pair: pair[0].numel()):
        if isinstance(content, Tensor) and type(content) is Tensor and home.numel() <= room:
            room -= home.numel()
            alike.setdefault((home.device, home.dtype), []).append((home, content))
        else:
            found.append(([home], content))
    groups = [tuple(zip(*group, strict=True)) for group in alike.values()]
    return found + [
        (list(homes), torch.cat([each.reshape(-1) for each in copies])) for homes, copies in groups
    ]


def _compared(homes: list[Tensor], content: Content) -> Tensor:
    now = [_local(home.detach()) for home in homes]
    pieces = _pieces(torch.cat([each.reshape(-1) for each in now]) if len(now) > 1 else now[0], content)
    # A running sum: what is kept of each piece would lie between the memory that the next ones reuse.
    total = _squares(*next(pieces))
    for piece in pieces:
        total = total + _squares(*piece)
    return total


def _squares(now: Tensor, was: Tensor) -> Tensor:
    now = _wide(now)
    was = was.to(now)
    way = now - was
    # Of the size of what has moved, and else zero: by a mask it takes ten times as long.
    moving = way.sgn().mul_(was)
    return torch.stack([torch.linalg.vector_norm(each) for each in (way, moving)]).square()


def _pieces(now: Tensor, content: Content) -> Iterator[tuple[Tensor, Tensor]]:
    """Both flat, PIECE elements at a time."""
    if isinstance(content, OnDisk):
        flat, size = now.reshape(-1), PIECE // 16
        for first in range(0, len(flat), size):
            piece = flat[first : first + size]
            yield piece, content.part(first, len(piece))
        return
    was = _local(content)
    if now.shape == was.shape and now.stride() == was.stride():
        # In the order of memory, as to flatten in another one copies all of it.
        order = sorted(range(now.ndim), key=now.stride, reverse=True)
        now, was = now.permute(order), was.permute(order)
    now, was = now.reshape(-1), was.reshape(-1)
    for first in range(0, len(now), PIECE):
        yield now[first : first + PIECE], was[first : first + PIECE]


def _is_any(home: Tensor, content: Content) -> bool:
    return any(bool(_wide(was).any()) for _, was in _pieces(_local(home.detach()), content))


def _wide(tensor: Tensor) -> Tensor:
    """With at least 32 bits for each number: the squares of smaller ones are too coarse."""
    if tensor.dtype.itemsize >= (8 if tensor.is_complex() else 4):
        return tensor
    return tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
