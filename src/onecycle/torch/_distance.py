"""How large the weights of a state are, and how far the trial's own have moved from them."""

from __future__ import annotations

import torch
from torch import Tensor

from onecycle.torch._processes import Processes
from onecycle.torch._room import OnDisk
from onecycle.torch._state import Tree

PIECE = 2**18  # elements of a tensor that are compared at once
_HALF = (torch.float16, torch.bfloat16)  # whose squares are too coarse
_SIZE = "size"  # the norm of the parameters, in a state that was asked for it


def moved(state: Tree, processes: Processes, device: torch.device) -> float:
    """How far the parameters that are trained lie from those of `state`, as a share of their size there.

    NaN where what is on a GPU has its copy on disk. The norms are Euclidean, over all parameters and
    `processes`, which talk over `device`.
    """

    def norm(*, moved: bool) -> float:
        square = _square(state["parameters"], moved=moved)
        if square is None:
            return float("nan")
        if processes.sharded:
            square = processes.sum(square, device)
        return float(square.sqrt())

    if _SIZE not in state:
        state[_SIZE] = norm(moved=False)
    size: float = state[_SIZE]
    return norm(moved=True) / size if size > 0 else float("nan")


def _square(tree: dict[str, Tree], *, moved: bool) -> Tensor | None:
    """Squared norm of what is trained in `tree`, a scalar, or of how far that has moved since.

    None where there is nothing, or copies of what is on a GPU lie on disk.
    """
    squares = []
    for kept in (parts["data"] for parts in tree.values() if parts["requires_grad"]):
        now = _local(kept.home.detach())
        if kept.content.shape != kept.home.shape or (isinstance(kept.content, OnDisk) and now.is_cuda):
            return None
        squares.append(_square_of_one(now, kept.content, moved=moved))
    return torch.stack([each.to(squares[0]) for each in squares]).sum() if squares else None


def _square_of_one(now: Tensor, content: Tensor | OnDisk, *, moved: bool) -> Tensor:
    """Squared norm of a copy's content, or of how far the tensor has moved since."""
    if isinstance(content, Tensor) and now.numel() <= PIECE:
        return _dot(now, _local(content), moved=moved)
    was = content if isinstance(content, OnDisk) else _local(content).reshape(-1)
    flat, size = now.reshape(-1), PIECE // 16 if isinstance(was, OnDisk) else PIECE
    # A running sum: what is kept of each piece would lie between the memory that the next ones reuse.
    total = torch.zeros((), device=now.device)
    for first in range(0, len(flat), size):
        piece = flat[first : first + size]
        part = was.part(first, len(piece)) if isinstance(was, OnDisk) else was[first : first + size]
        total = total + _dot(piece, part, moved=moved)
    return total


def _dot(now: Tensor, was: Tensor, *, moved: bool) -> Tensor:
    if now.dtype in _HALF:
        now = now.float()
    was = was.to(now)
    way = (now - was if moved else was).reshape(-1)
    return torch.vdot(way, way).real


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
