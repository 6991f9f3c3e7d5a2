"""Faults in range tests and `find_lr`, and whether all is as it was after each of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any
from unittest import mock

from benchmarks.reliability import files
from benchmarks.reliability.problem import (
    ENDS,
    ERRORS,
    HANGS,
    NONE,
    NUMBERS,
    PLACES,
    VARIANTS,
    WITH_A_WORKER,
    Fault,
    Problem,
    Variant,
    bits,
    present,
    surroundings,
)

Operation = Callable[[Problem], Any]
AFTER = 7  # steps of the user's own training after the fault: into a second epoch


@dataclass
class Count:
    """Faults of one kind: how many struck, and what was lost to them."""

    injected: int = 0
    lost: list[str] = field(default_factory=list)


Counts = dict[str, Count]  # by column of the table and kind of fault


# What is broken off ----------------------------------------------------------------------------------


def range_test(problem: Problem) -> Any:
    """One sweep of thirty steps with three looks at the validation loss."""
    from onecycle.torch import range_test as run

    curve = run(
        problem.model,
        problem.optimizer,
        problem.loss_fn,
        problem.loader,
        val_loader=problem.val_loader,
        evaluations=3,
        steps=30,
        start=1e-4,
        progress=False,
        amp=problem.variant.amp,
        accumulate=problem.variant.accumulate,
    )
    return curve.to_json()


def repeated(problem: Problem) -> Any:
    """Three sweeps of twelve steps, each from the same state."""
    from onecycle.torch import range_test as run

    curve = run(
        problem.model,
        problem.optimizer,
        problem.loss_fn,
        problem.loader,
        steps=12,
        repeats=3,
        start=1e-4,
        progress=False,
    )
    return curve.to_json()


def find_lr(problem: Problem) -> Any:
    """A range test of a hundred steps, and four pilots of forty."""
    import onecycle as oc
    from onecycle.torch import find_lr as run

    try:
        return run(
            problem.model,
            problem.optimizer,
            problem.loss_fn,
            problem.loader,
            total_steps=1300,
            val_loader=problem.val_loader,
            progress=False,
        ).to_json()
    except oc.Inconclusive as refusal:
        return refusal.reason


# One fault -------------------------------------------------------------------------------------------


class Case:
    """An operation on one variant, and what it and the training after it give where nothing goes wrong."""

    def __init__(self, operation: Operation, variant: Variant = VARIANTS[0]) -> None:
        self.operation, self.variant = operation, variant
        self.column = "find_lr" if operation is find_lr else "range test"
        plain = Problem(variant)
        self.weights, self._random = plain.weights(), plain.random()
        self._losses = bits(plain.train(AFTER))
        self._trained = plain.weights(), plain.random()
        problem = Problem(variant)
        begin = time.perf_counter()
        self.result = operation(problem)
        self.seconds = time.perf_counter() - begin
        if what := self.differs(problem):
            raise AssertionError(f"{operation.__name__} without any fault takes: {what}")

    def differs(self, problem: Problem) -> str:
        """What of the problem is other than it was, empty where nothing is; trains on to see."""
        if problem.weights() != self.weights:
            return "model or optimizer"
        if problem.random() != self._random:
            return "generators"
        if bits(problem.train(AFTER)) != self._losses:
            return "data order"
        return "" if (problem.weights(), problem.random()) == self._trained else "the training after it"

    def lost(self, fault: Fault = NONE) -> str:
        """What a fault took, empty where nothing."""
        problem = Problem(self.variant)
        wanted: type[BaseException] | None = KeyboardInterrupt if "interrupt" in fault.kind else None
        if fault.kind in ERRORS:
            wanted = type(ERRORS[fault.kind]())
        if fault.kind == HANGS:
            wanted = RuntimeError  # the loader's time is out
        from onecycle.torch import _snapshots, _state

        around, put_back = surroundings(), _state.put_back_modules

        def disturbed(*arguments: Any) -> None:
            fault.strike_again()
            put_back(*arguments)

        with mock.patch.object(_snapshots, "put_back_modules", disturbed), present(fault):
            try:
                self.operation(problem)
                ended: BaseException | None = None
            except BaseException as error:  # noqa: BLE001 - whatever the fault was
                ended = error
                if problem.weights() != self.weights:  # at once, not when the error is forgotten
                    return "model or optimizer"
        if not fault.struck:
            wanted = None
        if fault.kind == ENDS and "gave no batch" in str(ended):
            wanted = ValueError  # what ends before its first batch is refused
        if type(ended) is not wanted if wanted else ended is not None:
            return f"the error, which became {ended!r}"
        ended = None
        if surroundings() != around:
            return "handlers, threads or files"
        if problem.weights() != self.weights or problem.random() != self._random:
            return "model, optimizer or generators"
        if self.operation(problem) != self.result:
            return "the result of a second start"
        return self.differs(problem)

    def strike(self, counts: Counts, kind: str, place: str, at: int) -> None:
        """Have one fault, and count what it took if it struck."""
        fault = Fault(kind, place, at)
        what = self.lost(fault)
        if fault.struck:
            where = f"{self.operation.__name__}, {self.variant.name}, {place} {at}"
            count(counts, self.column, fault.row, what, where)


def count(counts: Counts, column: str, kind: str, what: str, where: str) -> None:
    """Count a fault, and `what` was lost to it, if anything."""
    row = counts.setdefault(f"{column}: {kind}", Count())
    row.injected += 1
    if what:
        row.lost.append(f"{where}: {what}")


# All of them -----------------------------------------------------------------------------------------


def sweep_of_faults(counts: Counts, small: bool = False) -> None:
    """Errors, interrupts, NaN and inf at every place, loaders that end or hang, early and late."""
    cases = [Case(range_test, variant) for variant in (VARIANTS[:1] if small else VARIANTS)]
    cases += [] if small else [Case(repeated)]
    for case, (kind, place) in itertools.product(cases, _kinds((*PLACES, "evaluate"))):
        for at in (1,) if small else (0, 7, 23):
            case.strike(counts, kind, place, at)
    if not small:
        case = Case(find_lr)
        for (kind, place), at in itertools.product(_kinds(PLACES), (40, 130, 220)):
            case.strike(counts, kind, place, at * (8 if place == "data" else 1))
    for operation in (range_test,) if small else (range_test, find_lr):
        case = Case(operation, WITH_A_WORKER)
        for at in (2,) if small else (0, 7, 17, 29):
            case.strike(counts, HANGS, "data", at)


def _kinds(places: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What may go wrong, and where."""
    yield from itertools.product((*ERRORS, "interrupt", "interrupt twice"), places)
    yield from itertools.product(NUMBERS, ("loss", "backward"))
    yield ENDS, "data"


def interrupts_at_any_moment(counts: Counts, moments: int, operation: Operation = range_test) -> None:
    """One to three interrupts from a timer, wherever the operation happens to be then."""
    rng = random.Random(0)
    case = Case(operation)
    for _ in range(moments):
        problem, delays = (
            Problem(case.variant),
            [rng.uniform(0, case.seconds) for _ in range(rng.choice((1, 1, 2, 3)))],
        )
        timers = [threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)) for delay in delays]
        ended: BaseException | None = None
        done = False
        with _interrupted_once():
            try:
                for timer in timers:
                    timer.start()
                case.operation(problem)
                done = True  # what strikes now came too late
                for timer in timers:
                    timer.join()
            except KeyboardInterrupt as error:
                ended = error
            weights = problem.weights()  # while the error and all that it refers to is held
            for timer in timers:
                timer.cancel()
                if timer.ident is not None:
                    timer.join()
        if ended is not None and not done:
            ended = None
            what = "model or optimizer" if weights != case.weights else case.differs(problem)
            count(counts, case.column, "interrupt at any moment", what, f"after {delays}")


def interrupts_at_lines(counts: Counts, most: int, operation: Operation = repeated) -> None:
    """One interrupt before a line or a return of this library or of `contextlib`: at `most` of them."""
    case = Case(operation)
    total = 0

    def traced(at: int) -> BaseException | None:
        nonlocal total
        with lines(at) as passed:
            try:
                case.operation(problem)
            except BaseException as error:  # noqa: BLE001 - interrupts alone are wanted, and checked for below
                return error
            finally:
                total = max(total, passed[0])
        return None

    problem = Problem()
    traced(0)
    rng = random.Random(0)
    for at in sorted(rng.sample(range(1, total + 1), min(most, total))):
        problem = Problem()
        around = surroundings()
        ended = traced(at)
        weights = problem.weights()  # at once, not when the error and all that it refers to is forgotten
        # Python itself forgets one that strikes as a generator is cleared away, and goes on.
        what = "" if isinstance(ended, (KeyboardInterrupt, type(None))) else f"the interrupt: {ended!r}"
        ended = None
        if surroundings() != around:
            what = "handlers, threads or files"
        elif weights != case.weights:
            what = "model or optimizer"
        what = what or case.differs(problem)
        count(counts, case.column, "interrupt at a line", what, f"line {at} of {total}")


@contextmanager
def lines(at: int) -> Iterator[list[int]]:
    """Interrupt before the `at`-th line of this library or of `contextlib`; how many were passed."""
    passed = [0]

    def line(_: FrameType, event: str, __: object) -> Any:
        if event in ("line", "return"):
            passed[0] += 1
            if passed[0] == at:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return line

    def call(frame: FrameType, *_: object) -> Any:
        name = frame.f_code.co_filename
        return line if f"{os.sep}onecycle{os.sep}" in name or name == contextlib.__file__ else None

    tracing = sys.gettrace()
    try:
        sys.settrace(call)
        yield passed
    finally:
        sys.settrace(tracing)


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """The first SIGINT that comes through raises, so that none strikes where the harness looks."""
    raised = False

    def interrupt(*_: object) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


CLOCKS: dict[str, Callable[[int], float]] = {
    "stands still": lambda _: 1e9,
    "runs backwards": lambda n: 1e9 - 1000.0 * n,
    "leaps ahead": lambda n: 1e9 + 86400.0 * n,
    "leaps about": lambda n: 1e9 + (-1) ** n * 3600.0 * n,
    "starts at 0": lambda n: 0.001 * n,
}


def clock(name: str) -> contextlib.ExitStack:
    """Have every clock of Python's be one of `CLOCKS`, from now to the end of a block."""
    counter, stack = itertools.count(), contextlib.ExitStack()

    def jumping() -> float:
        return CLOCKS[name](next(counter))

    for function in ("time", "monotonic", "perf_counter"):
        stack.enter_context(mock.patch.object(time, function, jumping))
    return stack


def clocks_that_jump(counts: Counts) -> None:
    """Clocks that stand still, run backwards or leap ahead change no result."""
    for operation in (range_test, find_lr):
        case = Case(operation)
        for name in CLOCKS:
            with clock(name):
                what = case.lost()
            count(counts, case.column, "clock that jumps", what, f"{operation.__name__}: {name}")


def record() -> None:
    """Have all faults in range tests and `find_lr`, and keep what was counted."""
    for faults in (
        sweep_of_faults,
        partial(interrupts_at_any_moment, moments=100),
        partial(interrupts_at_any_moment, moments=40, operation=find_lr),
        partial(interrupts_at_lines, most=400),
        partial(interrupts_at_lines, most=60, operation=find_lr),
        clocks_that_jump,
    ):
        counts: Counts = {}
        faults(counts)
        files.add("faults", {name: vars(row) for name, row in counts.items()})
