"""Keras 3, on its torch and JAX back ends: schedules, a policy's momentum, and range tests."""

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.keras needs Keras 3 and its back end ({error}): pip install 'onecycle[keras]' torch, "
        "and set KERAS_BACKEND=torch; or jax likewise",
        name=error.name,
    ) from error

from onecycle.keras._helpers import find_lr, range_test
from onecycle.keras._policy import PolicyCallback, Schedule
from onecycle.keras._trial import Trial

for _public in (PolicyCallback, Schedule, Trial):
    _public.__module__ = __name__  # which a saved model names

__all__ = ["PolicyCallback", "Schedule", "Trial", "find_lr", "range_test"]
