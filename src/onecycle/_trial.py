"""What the core asks of a model in training, and how it promises to leave it."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
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
    the last `evaluate` measured beside the loss; `read_losses(losses)`, which gives as floats what several
    steps gave; `moved(state)`, how far what is trained lies from that state, as a share of its size there;
    `set_aside()`, which is `save` for a state that is restored before anything but the trial has changed it;
    and `write(path, note)` and `read(path)`, which keep its state in a file.
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


def read_losses(trial: Trial, losses: Sequence[SupportsFloat]) -> list[float]:
    """What steps gave, as floats: together where the trial can do that."""
    reader: Callable[[Sequence[SupportsFloat]], list[float]] | None = getattr(trial, "read_losses", None)
    return list(map(float, losses)) if reader is None else reader(losses)


def moved(trial: Trial, state: Any) -> float:
    """How far the weights lie from those of `state`, as a share of their size there; NaN if not known."""
    measure: Callable[[Any], float] | None = getattr(trial, "moved", None)
    return math.nan if measure is None else measure(state)


def preserved(trial: Trial) -> AbstractContextManager[Any]:
    """Put `trial` back however the block ends; gives its state.

    A Ctrl-C leaves the block as usual; any other that comes before the trial is whole again waits.
    """
    return _Preserved(trial)


class Afterwards:
    """Calls `put_back` however the block ends; an interrupt in that, or a second one, waits for its end.

    No generator under `contextlib`: an interrupt between its end and the block's would skip the rest.
    """

    def __init__(self, put_back: Callable[[], None]) -> None:
        self._put_back = put_back

    def __enter__(self) -> Any:
        self._interrupts = _Interrupts()
        self._interrupts.begin()

    def __exit__(self, *_: object) -> None:
        try:
            self._interrupts.hold = True
        finally:
            try:
                self._put_back()
            finally:
                self._interrupts.end()


class _Preserved(Afterwards):
    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __enter__(self) -> Any:
        state = getattr(self._trial, "set_aside", self._trial.save)()
        # Nothing here refers to itself: weights and worker processes would live until cycles are collected.
        super().__init__(partial(self._trial.restore, state))
        super().__enter__()
        return state


# An interrupt that comes to these, or to what they call, waits.
_UNBROKEN = (_Preserved.__enter__.__code__, Afterwards.__enter__.__code__, Afterwards.__exit__.__code__)


class _Interrupts:
    """Hands SIGINT on to the handler there was, until that raises or `hold` is set; then it waits."""

    def __init__(self) -> None:
        self.hold = False
        self._waiting = False
        previous = signal.getsignal(signal.SIGINT)
        # Only the main thread may set handlers; a process that ignores Ctrl-C goes on ignoring it.
        main = threading.current_thread() is threading.main_thread()
        self._previous = previous if main and callable(previous) else None

    def begin(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self)

    def end(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            if self._waiting:
                self._previous(signal.SIGINT, None)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        assert self._previous is not None
        if self.hold or _is_unbroken(frame):
            self._waiting = True
            return
        try:
            self._previous(number, frame)
        except BaseException:
            self.hold = True  # from here on the block is being left
            raise


def _is_unbroken(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in _UNBROKEN:
            return True
        frame = frame.f_back
    return False
