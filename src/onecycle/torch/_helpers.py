"""`range_test` and `find_lr` for a model, an optimizer, a loss and a loader, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

from torch import nn
from torch.optim import Optimizer

from onecycle import _find, _range_test
from onecycle._curve import Curve
from onecycle._suggestion import Suggestion
from onecycle.torch._trial import Loss, Trial

_FOR_TRIAL = ("step", "device", "amp", "accumulate", "clip_grad_norm", "metrics", "keep_on")


def range_test(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    loss_fn: Loss | None,
    train_loader: Iterable[Any],
    *,
    val_loader: Iterable[Any] | None = None,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int | None = None,
    repeats: int = 1,
    sweep: _range_test.Sweep = "exponential",
    hyper: _range_test.Hyper = "lr",
    seed: int = 0,
    progress: bool = True,
    batches_per_value: int = 1,
    evaluations: int = 20,
    **trial: Any,
) -> Curve:
    """Sweep the learning rate (or momentum, or weight decay) and record the loss; all is put back after.

    The rate is the first param group's; the others keep their ratio to it. Model, optimizer, random
    generators and data order are exactly as before, however the sweep ends.

    Args:
        model, optimizer, loss_fn, train_loader, val_loader: see `Trial`.
        start, end, steps, repeats, sweep, hyper, seed, progress, batches_per_value, evaluations: see
            `onecycle.range_test`.
        **trial: `step`, `device`, `amp`, `accumulate`, `clip_grad_norm`, `keep_on`: see `Trial`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range; the message names it.
    """
    _check_known(range_test, trial)
    made = Trial(model, optimizer, loss_fn, train_loader, val_loader, **trial)
    return _range_test.range_test(
        made,
        start=start,
        end=end,
        steps=steps,
        repeats=repeats,
        sweep=sweep,
        hyper=hyper,
        seed=seed,
        progress=progress and made.is_main,
        batches_per_value=batches_per_value,
        evaluations=evaluations,
    )


def find_lr(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    loss_fn: Loss | None,
    train_loader: Iterable[Any],
    *,
    total_steps: int,
    val_loader: Iterable[Any] | None = None,
    objective: _find.Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
    **trial: Any,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `total_steps` updates: range test, then short pilots.

    Args:
        model, optimizer, loss_fn, train_loader, val_loader: see `Trial`.
        total_steps, objective, budget, seed, progress: see `onecycle.find_lr`.
        **trial: `step`, `device`, `amp`, `accumulate`, `clip_grad_norm`, `keep_on`: see `Trial`.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range; the message names it.
    """
    _check_known(find_lr, trial)
    made = Trial(model, optimizer, loss_fn, train_loader, val_loader, **trial)
    return _find.find_lr(
        made,
        total_steps=total_steps,
        objective=objective,
        budget=budget,
        seed=seed,
        progress=progress and made.is_main,
    )


def _check_known(helper: Callable[..., Any], trial: Mapping[str, Any]) -> None:
    """Raise TypeError in the helper's own name for what neither it nor a trial has."""
    if unknown := trial.keys() - set(_FOR_TRIAL):
        own = [p.name for p in signature(helper).parameters.values() if p.kind is p.KEYWORD_ONLY]
        raise TypeError(
            f"{helper.__name__}() has no argument {min(unknown)!r}: its keywords are "
            + ", ".join([*own, *_FOR_TRIAL])
        )
