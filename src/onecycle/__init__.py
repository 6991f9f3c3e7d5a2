"""Find and set the learning rate, momentum, weight decay and batch size of a deep network.

Every public name is imported on first use, so that ``import onecycle`` costs nothing and no
framework is loaded before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onecycle._curve import Curve as Curve
    from onecycle._errors import Inconclusive as Inconclusive
    from onecycle._find import find_lr as find_lr
    from onecycle._policies import cyclical as cyclical
    from onecycle._policies import one_cycle as one_cycle
    from onecycle._policy import Policy as Policy
    from onecycle._range_test import range_test as range_test
    from onecycle._recipe import Recipe as Recipe
    from onecycle._schedules import Cycle as Cycle
    from onecycle._schedules import Piecewise as Piecewise
    from onecycle._schedules import Schedule as Schedule
    from onecycle._schedules import constant as constant
    from onecycle._schedules import cosine as cosine
    from onecycle._schedules import exponential as exponential
    from onecycle._schedules import linear as linear
    from onecycle._suggestion import Suggestion as Suggestion
    from onecycle._train import train as train
    from onecycle._trial import Trial as Trial
    from onecycle._tune import tune as tune

__version__ = "0.1.0"

_HOME = {
    "Curve": "_curve",
    "Cycle": "_schedules",
    "Inconclusive": "_errors",
    "Piecewise": "_schedules",
    "Policy": "_policy",
    "Recipe": "_recipe",
    "Schedule": "_schedules",
    "Suggestion": "_suggestion",
    "Trial": "_trial",
    "constant": "_schedules",
    "cosine": "_schedules",
    "cyclical": "_policies",
    "exponential": "_schedules",
    "find_lr": "_find",
    "linear": "_schedules",
    "one_cycle": "_policies",
    "range_test": "_range_test",
    "train": "_train",
    "tune": "_tune",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'onecycle' has no attribute {name!r}")
    value = getattr(import_module(f"onecycle.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
