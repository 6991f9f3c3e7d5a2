"""Runs many short trainings in processes of one thread each, and says how long it will take."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """`function(*arguments)`, to be run in some process; steps are counted for the time left."""

    function: Callable[..., Row]
    arguments: tuple[Any, ...]
    task: str
    steps: int


def spread(jobs: Iterable[Job], workers: int, finish: Callable[[Job, Row], Iterable[Job]]) -> None:
    """Run jobs; `finish` takes each one's row, keeps it, and may give more jobs.

    Args:
        jobs: what to run, in this order.
        workers: processes; 1: this one.
        finish: called in this process.
    """
    progress = _Progress(workers)
    for finished in (_here if workers == 1 else _processes)(jobs, workers, finish, progress):
        progress.done(*finished)


def _timed(job: Job) -> tuple[Row, float]:
    begin = time.perf_counter()
    return job.function(*job.arguments), time.perf_counter() - begin


def _here(
    jobs: Iterable[Job], _: int, finish: Callable[[Job, Row], Iterable[Job]], progress: _Progress
) -> Iterator[tuple[Job, Row, float]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        waiting = list(jobs)
        progress.add(waiting)
        while waiting:
            job = waiting.pop(0)
            row, seconds = _timed(job)
            more = list(finish(job, row))
            progress.add(more)
            waiting = more + waiting
            yield job, row, seconds
    finally:
        torch.set_num_threads(threads)


def _processes(
    jobs: Iterable[Job], workers: int, finish: Callable[[Job, Row], Iterable[Job]], progress: _Progress
) -> Iterator[tuple[Job, Row, float]]:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        running: dict[Future[tuple[Row, float]], Job] = {}

        def submit(more: Iterable[Job]) -> None:
            found = list(more)
            progress.add(found)
            running.update({pool.submit(_timed, job): job for job in found})

        try:
            submit(jobs)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    row, seconds = future.result()
                    submit(finish(job, row))
                    yield job, row, seconds
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Progress:
    """One line on standard error for each finished job, at most one a second."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps: dict[str, int] = defaultdict(int)
        self._left: dict[str, int] = defaultdict(int)
        self._counts = [0, 0]
        self._said = -1.0

    def add(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._left[job.task] += job.steps
            self._counts[1] += 1

    def done(self, job: Job, row: Row, seconds: float) -> None:
        self._left[job.task] -= job.steps
        self._steps[job.task] += job.steps
        self._seconds[job.task] += seconds
        self._counts[0] += 1
        now = time.monotonic()
        if now < self._said + 1 and self._counts[0] < self._counts[1]:
            return
        self._said = now
        mean = sum(self._seconds.values()) / sum(self._steps.values())
        left = sum(
            steps * (self._seconds[task] / self._steps[task] if task in self._steps else mean)
            for task, steps in self._left.items()
        )
        done, total = self._counts
        print(
            f"{done}/{total}  {_clock(left / self._workers)} left  {job.task}: {row['said']}",
            file=sys.stderr,
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
