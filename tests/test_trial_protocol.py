"""`preserved`: a trial is put back however its block ends, whatever Ctrl-C does meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import onecycle
from onecycle import Trial
from onecycle._trial import preserved


class Counter:
    """A trial of one number, with something to happen at each step and in `restore`."""

    size = 1

    def __init__(
        self, at_step: Callable[[], None] = lambda: None, at_restore: Callable[[], None] = lambda: None
    ) -> None:
        self.count = 3
        self.at_step, self.at_restore = at_step, at_restore

    def set(self, **hyper: float) -> None:
        """Nothing to set."""

    def step(self) -> float:
        self.count += 1
        self.at_step()
        return float(self.count)

    def evaluate(self) -> None:
        return None

    def save(self) -> int:
        return self.count

    def restore(self, state: int) -> None:
        self.count = -1
        self.at_restore()
        self.count = state


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def handler() -> Iterator[Any]:
    """Python's own handler in the test, and a check that it is back after it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


def sweep(trial: Counter) -> None:
    with preserved(trial):
        trial.step()
        trial.step()


def test_a_trial_is_known_by_what_it_can_do() -> None:
    assert isinstance(Counter(), Trial)
    assert not isinstance(object(), Trial)


def test_it_gives_the_state_and_puts_the_trial_back() -> None:
    trial = Counter()
    with preserved(trial) as state:
        assert state == 3
        trial.step()
    assert trial.count == 3


def test_the_trial_may_be_put_back_within() -> None:
    trial = Counter()
    with preserved(trial) as state:
        for _ in range(3):
            trial.step()
            trial.restore(state)
    assert trial.count == 3


def test_nothing_of_it_lives_on() -> None:
    """No cycle holds trial or state, whose workers would last until Python happens to collect it."""
    gc.collect()
    gc.disable()
    try:
        trial = Counter()
        with preserved(trial):
            trial.step()
        gone = weakref.ref(trial)
        del trial
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_put_back_after(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    trial = Counter(fail)
    with pytest.raises(error):
        sweep(trial)
    assert trial.count == 3


@pytest.mark.parametrize("send", [interrupt, lambda: os.kill(os.getpid(), signal.SIGINT)])
def test_put_back_after_a_signal_in_the_step(send: Callable[[], None]) -> None:
    trial = Counter(send)
    with pytest.raises(KeyboardInterrupt):
        sweep(trial)
    assert trial.count == 3


def test_a_second_signal_cannot_break_into_putting_back() -> None:
    def impatient() -> None:
        interrupt()
        interrupt()

    trial = Counter(interrupt, impatient)
    with pytest.raises(KeyboardInterrupt):
        sweep(trial)
    assert trial.count == 3


def test_a_first_signal_while_putting_back_comes_after() -> None:
    trial = Counter(at_restore=interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep(trial)
    assert trial.count == 3


def test_an_error_in_the_step_is_told_with_the_signal_after_it() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    trial = Counter(fail, interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(trial)
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert trial.count == 3


def test_a_signal_that_the_step_swallowed_does_not_swallow_the_next() -> None:
    def deaf() -> None:
        try:
            interrupt()
        except KeyboardInterrupt:
            heard.append(True)

    heard: list[bool] = []
    trial = Counter(deaf)
    with pytest.raises(KeyboardInterrupt):
        sweep(trial)
    assert heard == [True]
    assert trial.count == 3


def test_a_handler_of_the_users_gets_every_signal() -> None:
    """One that only takes note, as those do that end training after the step, stops nothing."""
    noted: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)

    before = signal.signal(signal.SIGINT, note)
    trial = Counter(interrupt, interrupt)
    sweep(trial)
    assert signal.signal(signal.SIGINT, before) is note
    assert noted == [signal.SIGINT] * 3
    assert trial.count == 3


def test_a_process_that_ignores_signals_goes_on_ignoring_them() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    trial = Counter(interrupt, interrupt)
    sweep(trial)
    assert signal.signal(signal.SIGINT, before) == signal.SIG_IGN
    assert trial.count == 3


def test_a_signal_as_the_handler_is_set_leaves_no_handler_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    set_handler, calls = signal.signal, []

    def late(number: int, handler: Any) -> Any:
        previous = set_handler(signal.Signals(number), handler)
        calls.append(handler)
        if len(calls) == 1:
            interrupt()
        return previous

    monkeypatch.setattr(signal, "signal", late)
    trial = Counter()
    with pytest.raises(KeyboardInterrupt):
        sweep(trial)
    assert calls[-1] is signal.default_int_handler
    assert trial.count == 3


def test_it_works_in_a_thread_that_may_set_no_handler() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    def run(trial: Counter) -> None:
        try:
            sweep(trial)
        except ZeroDivisionError as error:
            errors.append(error)

    errors: list[Exception] = []
    trials = [Counter(), Counter(fail)]
    for trial in trials:
        thread = threading.Thread(target=run, args=(trial,))
        thread.start()
        thread.join()
    assert [trial.count for trial in trials] == [3, 3]
    assert len(errors) == 1


def test_an_interrupt_at_any_line() -> None:
    """One comes before each line, and each return, of what puts a trial back, and of what that rests on."""

    def swept(at: int) -> tuple[Counter, int, BaseException | None]:
        trial, passed = Counter(), 0

        def line(_: FrameType, event: str, __: object) -> Any:
            nonlocal passed
            passed += event != "exception"
            if passed == at and event != "exception":
                sys.settrace(None)
                interrupt()
            return line

        def call(frame: FrameType, *_: object) -> Any:
            ours = frame.f_code.co_filename in (onecycle._trial.__file__, contextlib.__file__)
            return line if ours and frame.f_code is not sweep.__code__ else None

        tracing = sys.gettrace()
        try:
            sys.settrace(call)
            sweep(trial)
        except BaseException as error:  # noqa: BLE001 - which one it is, is tested
            return trial, passed, error
        finally:
            sys.settrace(tracing)
        return trial, passed, None

    _, total, _ = swept(0)
    assert total > 20
    for at in range(1, total + 1):
        trial, _, ended = swept(at)
        # While the error is held, not when the generators that it refers to are closed.
        assert (trial.count, type(ended)) == (3, KeyboardInterrupt), f"{at} of {total}"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
