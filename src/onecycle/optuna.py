"""Optuna: a search space around a recipe, and the recipe itself as the first trial."""

from __future__ import annotations

import dataclasses
from typing import Any

from onecycle._recipe import Recipe

try:
    import optuna
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.optuna needs Optuna ({error}): pip install 'onecycle[optuna]'", name=error.name
    ) from error

__all__ = ["enqueue", "suggest_recipe"]


def suggest_recipe(trial: optuna.Trial, recipe: Recipe, *, widen: float = 3.0) -> Recipe:
    """A recipe near `recipe`, with the values that `trial` suggests.

    The parameters are `max_lr` and `weight_decay`, searched logarithmically; `momentum`, the low end of
    a cycle or the constant, whose distance from 1 is searched up to four times and down to a quarter;
    and `batch_size`, from half to double. What the recipe leaves open is not searched. `min_lr` keeps
    its ratio to `max_lr`.

    Args:
        trial: Optuna's.
        recipe: where to search.
        widen: the factor by which the search goes beyond the recipe's interval (beyond `max_lr` where it
            has none), and beyond its weight decay, to either side.

    Raises:
        ValueError: `widen` is not above 1.
    """
    if not widen > 1:
        raise ValueError(f"widen must be a factor > 1, got {widen}")
    low, high = recipe.interval or (recipe.max_lr, recipe.max_lr)
    found: dict[str, Any] = {"max_lr": trial.suggest_float("max_lr", low / widen, high * widen, log=True)}
    if recipe.min_lr is not None:
        found["min_lr"] = recipe.min_lr * found["max_lr"] / recipe.max_lr
    if recipe.momentum is not None:
        top = recipe.momentum[0] if isinstance(recipe.momentum, tuple) else 1.0
        gap = 1 - _momentum(recipe.momentum)
        value = trial.suggest_float("momentum", max(1 - 4 * gap, 0.0), min(1 - gap / 4, top))
        found["momentum"] = (top, value) if isinstance(recipe.momentum, tuple) else value
    if recipe.weight_decay:
        decay = recipe.weight_decay
        found["weight_decay"] = trial.suggest_float("weight_decay", decay / widen, decay * widen, log=True)
    if (size := recipe.batch_size) is not None:
        found["batch_size"] = trial.suggest_categorical(
            "batch_size", sorted({max(size // 2, 1), size, 2 * size})
        )
    return dataclasses.replace(recipe, **found, interval=None)


def enqueue(study: optuna.Study, recipe: Recipe) -> None:
    """Make `recipe` itself the next trial of `study`, unless it has been one."""
    values: dict[str, Any] = {"max_lr": recipe.max_lr}
    if recipe.momentum is not None:
        values["momentum"] = _momentum(recipe.momentum)
    if recipe.weight_decay:
        values["weight_decay"] = recipe.weight_decay
    if recipe.batch_size is not None:
        values["batch_size"] = recipe.batch_size
    study.enqueue_trial(values, skip_if_exists=True)


def _momentum(momentum: tuple[float, float] | float) -> float:
    """The low end of a cycle, or the constant."""
    return momentum[1] if isinstance(momentum, tuple) else momentum
