"""What the core asks of a model in training, and how it promises to leave it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, SupportsFloat, runtime_checkable


@runtime_checkable
class Trial(Protocol):
    """One model in training, a mini-batch at a time, that can be put back exactly as it was.

    The core knows frameworks only through this protocol. `restore(save())` must give back parameters,
    buffers, optimizer state, hyper-parameters, gradients, train/eval mode, loss scaler, every random
    generator, and the data order. A state may be restored many times.

    A trial may also have `seed(n)`, which sets every random generator and starts the data anew;
    `steps_per_epoch`; `describe()`, a dict of facts for a curve's settings; `metrics`, a dict of what
    the last `evaluate` measured beside the loss; and `write(path, note)` and `read(path)`, which keep
    its state in a file.
    """

    @property
    def size(self) -> int:
        """Samples per step."""

    def set(self, **hyper: float) -> None:
        """Set `lr`, `momentum` or `weight_decay`; what the model has no use for is left alone."""

    def step(self) -> SupportsFloat:
        """Train on one batch; its loss before the update, a float or a scalar still on the device."""

    def evaluate(self) -> float | None:
        """Mean loss on the validation set, None where there is none; training goes on as if not called."""

    def save(self) -> Any:
        """Everything that `restore` needs to put the trial back."""

    def restore(self, state: Any) -> None:
        """Put the trial back to where `save` was called."""


def reseed(trial: Trial, seed: int) -> None:
    """Seed the trial where it can be seeded."""
    seeder: Callable[[int], None] | None = getattr(trial, "seed", None)
    if seeder is not None:
        seeder(seed)


@contextmanager
def preserved(trial: Trial) -> Iterator[Any]:
    """Put `trial` back however the block ends; yields its state.

    A Ctrl-C leaves the block as usual; any other that comes before the trial is whole again waits.
    """
    state = trial.save()
    with _interrupts() as interrupts:
        try:
            yield state
        finally:
            try:
                interrupts.hold = True
            finally:
                trial.restore(state)


class _Interrupts:
    """Hands SIGINT on to the handler there was, until that raises or `hold` is set; then it waits."""

    def __init__(self, previous: Callable[[int, FrameType | None], Any]) -> None:
        self.previous = previous
        self.hold = False
        self.waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.hold:
            self.waiting = True
            return
        try:
            self.previous(number, frame)
        except BaseException:
            self.hold = True  # from here on the block is being left
            raise


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    previous = signal.getsignal(signal.SIGINT)
    # Only the main thread may set handlers; a process that ignores Ctrl-C goes on ignoring it.
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield _Interrupts(signal.default_int_handler)
        return
    interrupts = _Interrupts(previous)
    try:
        signal.signal(signal.SIGINT, interrupts)
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, previous)
        if interrupts.waiting:
            previous(signal.SIGINT, None)
