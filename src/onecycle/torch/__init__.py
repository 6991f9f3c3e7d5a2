"""PyTorch: a trial around your model, a scheduler for your loop, and the one-line helpers."""

from onecycle._batch_size import BatchSizes as BatchSizes
from onecycle._batch_size import Fast as Fast
from onecycle._batch_size import Fits as Fits
from onecycle._noise import NoiseScale as NoiseScale
from onecycle.torch._batch_size import batch_size as batch_size
from onecycle.torch._batch_size import largest_batch as largest_batch
from onecycle.torch._helpers import find_lr as find_lr
from onecycle.torch._helpers import range_test as range_test
from onecycle.torch._noise import noise_scale as noise_scale
from onecycle.torch._scheduler import Scheduler as Scheduler
from onecycle.torch._trial import Trial as Trial

__all__ = [
    "BatchSizes",
    "Fast",
    "Fits",
    "NoiseScale",
    "Scheduler",
    "Trial",
    "batch_size",
    "find_lr",
    "largest_batch",
    "noise_scale",
    "range_test",
]
