"""Lightning: callbacks that train with a policy and that run a range test, and one-line helpers.

Nothing here re-enters a trainer of yours. A range test within a fit trains on the fit's own model,
optimizers, precision and data while callbacks and loggers are muted, and then puts all of it back; one
outside of a fit does so within a short fit of its own.
"""

try:
    import lightning.pytorch as _lightning  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.lightning needs Lightning ({error}): pip install 'onecycle[lightning]'", name=error.name
    ) from error

from onecycle.lightning._policy import OneCycle, one_cycle
from onecycle.lightning._range_test import RangeTest, find_lr, range_test

__all__ = ["OneCycle", "RangeTest", "find_lr", "one_cycle", "range_test"]
