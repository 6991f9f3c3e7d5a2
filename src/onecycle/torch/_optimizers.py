"""What a trial asks of an optimizer beyond a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from torch.optim import Optimizer

_ZERO_GRAD: Any = Optimizer.zero_grad  # torch's own, whatever is put in its place later


def zeroes_as_torch(optimizer: Any) -> bool:
    """Whether its `zero_grad` is torch's own."""
    return getattr(optimizer.zero_grad, "__func__", None) is _ZERO_GRAD


def drop_gradients(optimizers: Iterable[Any]) -> None:
    """`zero_grad` of each; what torch's own does is done here, as its entry in a profile costs far more."""
    for each in optimizers:
        if zeroes_as_torch(each):
            for group in each.zero_grad.__self__.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        else:
            each.zero_grad(set_to_none=True)


def swap(optimizer: Optimizer, mode: bool = False) -> Callable[[], None] | None:
    """The method by which a schedule-free optimizer swaps its weights in and out, if it is one."""
    switch = getattr(optimizer, "train" if mode else "eval", None)
    return switch if callable(switch) else None


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step cannot do without one, as that of LBFGS."""
    return _takes_closure(getattr(optimizer.step, "__func__", optimizer.step))


@lru_cache(maxsize=256)
def _takes_closure(step: Callable[..., object]) -> bool:
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
