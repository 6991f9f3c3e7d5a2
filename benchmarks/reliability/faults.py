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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from unittest import mock

from torch.utils.data import DataLoader

from benchmarks.reliability.problem import (
    ERRORS,
    NONE,
    NUMBERS,
    PLACES,
    VARIANTS,
    Fault,
    Problem,
    Samples,
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


Counts = dict[str, Count]


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
        problem.model, problem.optimizer, problem.loss_fn, problem.loader, steps=12, repeats=3, start=1e-4, progress=False
    )  # fmt: skip
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
        from onecycle.torch import _trial

        around, put_back = surroundings(), _trial.put_back_modules

        def disturbed(*arguments: Any) -> None:
            fault.strike_again()
            put_back(*arguments)

        with mock.patch.object(_trial, "put_back_modules", disturbed), present(fault):
            try:
                self.operation(problem)
                ended: BaseException | None = None
            except BaseException as error:  # noqa: BLE001 - whatever the fault was
                ended = error
                if problem.weights() != self.weights:  # at once, not when the error is forgotten
                    return "model or optimizer"
        if not fault.struck:
            wanted = None
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
            _count(counts, kind, what, f"{self.operation.__name__}, {self.variant.name}, {place} {at}")


def _count(counts: Counts, kind: str, what: str, where: str) -> None:
    count = counts.setdefault(kind, Count())
    count.injected += 1
    if what:
        count.lost.append(f"{where}: {what}")


# All of them -----------------------------------------------------------------------------------------


def sweep_of_faults(counts: Counts, small: bool = False) -> None:
    """Errors, interrupts, NaN and inf at every place, early and late."""
    kinds = (*ERRORS, "interrupt", "interrupt twice", *NUMBERS)
    places = (*PLACES, "evaluate")
    cases = [Case(range_test, variant) for variant in (VARIANTS[:1] if small else VARIANTS)]
    cases += [] if small else [Case(repeated)]
    for case, kind, place in itertools.product(cases, kinds, places):
        if kind in NUMBERS and place not in ("loss", "backward"):
            continue
        for at in (1,) if small else (0, 7, 23):
            case.strike(counts, kind, place, at)
    if small:
        return
    case = Case(find_lr)
    for kind, place, at in itertools.product(kinds, PLACES, (40, 130, 220)):
        if kind not in NUMBERS or place in ("loss", "backward"):
            case.strike(counts, kind, place, at * (8 if place == "data" else 1))


def interrupts_at_any_moment(counts: Counts, moments: int, seed: int = 0) -> None:
    """One to three interrupts from a timer, wherever the operation happens to be then."""
    rng = random.Random(seed)
    case = Case(range_test)
    for _ in range(moments):
        problem = Problem(case.variant)
        delays = sorted(rng.uniform(0, case.seconds) for _ in range(rng.choice((1, 1, 2, 3))))
        sent: list[float] = []

        def send(delays: list[float] = delays, sent: list[float] = sent) -> None:
            begin = time.perf_counter()
            for delay in delays:
                time.sleep(max(delay - (time.perf_counter() - begin), 0))
                if done.is_set():
                    return
                sent.append(delay)
                os.kill(os.getpid(), signal.SIGINT)

        done = threading.Event()
        thread = threading.Thread(target=send)
        ended: BaseException | None = None
        try:
            thread.start()
            case.operation(problem)
        except BaseException as error:  # noqa: BLE001 - interrupts alone are wanted, and checked for below
            ended = error
        with _interrupts_swallowed():
            done.set()
            thread.join()
        if not isinstance(ended, KeyboardInterrupt):
            continue  # it came too late
        weights = problem.weights()
        ended = None
        what = "model or optimizer" if weights != case.weights else case.differs(problem)
        _count(counts, "interrupt at any moment", what, f"after {delays}")


def interrupts_at_lines(counts: Counts, most: int, seed: int = 0) -> None:
    """One interrupt before a line or a return of this library or of `contextlib`: at `most` of them."""
    case = Case(repeated)
    total = 0

    def traced(at: int) -> BaseException | None:
        nonlocal total
        passed = 0

        def line(_: FrameType, event: str, __: object) -> Any:
            nonlocal passed
            if event in ("line", "return"):
                passed += 1
                if passed == at:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
            return line

        def call(frame: FrameType, *_: object) -> Any:
            name = frame.f_code.co_filename
            return line if f"{os.sep}onecycle{os.sep}" in name or name == contextlib.__file__ else None

        try:
            sys.settrace(call)
            case.operation(problem)
        except BaseException as error:  # noqa: BLE001 - interrupts alone are wanted, and checked for below
            return error
        finally:
            sys.settrace(None)
            total = max(total, passed)
        return None

    problem = Problem()
    traced(0)
    rng = random.Random(seed)
    for at in sorted(rng.sample(range(1, total + 1), min(most, total))):
        problem = Problem()
        around = surroundings()
        ended = traced(at)
        weights = problem.weights()  # at once, not when the error and all that it refers to is forgotten
        what = "" if isinstance(ended, KeyboardInterrupt) else f"the interrupt, which became {ended!r}"
        ended = None
        if surroundings() != around:
            what = "handlers, threads or files"
        elif weights != case.weights:
            what = "model or optimizer"
        _count(counts, "interrupt at a line", what or case.differs(problem), f"line {at} of {total}")


@contextmanager
def _interrupts_swallowed() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def clocks_that_jump(counts: Counts) -> None:
    """Clocks that stand still, run backwards or leap ahead change no result."""
    jumps: dict[str, Callable[[int], float]] = {
        "stands still": lambda _: 1e9,
        "runs backwards": lambda n: 1e9 - 1000.0 * n,
        "leaps ahead": lambda n: 1e9 + 86400.0 * n,
        "leaps about": lambda n: 1e9 + (-1) ** n * 3600.0 * n,
        "starts at 0": lambda n: 0.001 * n,
    }
    for operation in (range_test, find_lr):
        case = Case(operation)
        for name, clock in jumps.items():
            counter = itertools.count()
            with mock.patch.multiple(
                time, **dict.fromkeys(("time", "monotonic", "perf_counter"), lambda: clock(next(counter)))  # noqa: B023 - called within
            ):  # fmt: skip
                what = case.lost()
            _count(counts, "clock that jumps", what, f"{operation.__name__}: {name}")


def loaders_that_hang(counts: Counts, hangs: int = 4) -> None:
    """A worker that hangs, told by the DataLoader's timeout; the model's part is put back all the same."""
    for at in range(hangs):
        problem = Problem()
        problem.loader = DataLoader(Hanging(at * 8), 8, num_workers=1, timeout=1, generator=problem.generator)
        before, generators, around = problem.weights(), problem.random(), surroundings()
        what = "the error"
        try:
            range_test(problem)
        except RuntimeError as error:
            what = "" if "timed out" in str(error) else f"the error, which became {error!r}"
        if problem.weights() != before:
            what = "model or optimizer"
        if problem.random() != generators:
            what = "generators"
        if surroundings()[:2] != around[:2]:
            what = "handlers or threads"
        _count(counts, "worker that hangs", what, f"at batch {at}")


class Hanging(Samples):
    """Samples of which one never comes."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def __getitem__(self, index: int) -> Any:
        if index == self.at:
            time.sleep(60)
        return self.x[index], self.y[index]
