"""`range_test` and `find_lr` for a model and its data, in one line each."""

from __future__ import annotations

from typing import Any

from onecycle import _find, _range_test
from onecycle._curve import Curve
from onecycle._suggestion import Suggestion
from onecycle.keras._trial import Trial


def range_test(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    validation_data: Any = None,
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
) -> Curve:
    """Sweep the learning rate (or momentum, or weight decay) and record the loss; all is put back after.

    Weights, optimizer variables, metrics and random generators are exactly as before, however it ends.

    Args:
        model, x, y, batch_size, validation_data: see `Trial`.
        start, end, steps, repeats, sweep, hyper, seed, progress, batches_per_value, evaluations: see
            `onecycle.range_test`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range, or `hyper` has no effect under this back end.
    """
    return _range_test.range_test(
        Trial(model, x, y, batch_size=batch_size, validation_data=validation_data),
        start=start,
        end=end,
        steps=steps,
        repeats=repeats,
        sweep=sweep,
        hyper=hyper,
        seed=seed,
        progress=progress,
        batches_per_value=batches_per_value,
        evaluations=evaluations,
    )


def find_lr(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    total_steps: int,
    batch_size: int = 32,
    validation_data: Any = None,
    objective: _find.Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `total_steps` updates: range test, then short pilots.

    Args:
        model, x, y, batch_size, validation_data: see `Trial`.
        total_steps, objective, budget, seed, progress: see `onecycle.find_lr`.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.
    """
    return _find.find_lr(
        Trial(model, x, y, batch_size=batch_size, validation_data=validation_data),
        total_steps=total_steps,
        objective=objective,
        budget=budget,
        seed=seed,
        progress=progress,
    )
