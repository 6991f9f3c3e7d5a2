"""Trials in this process, or in processes on this machine's cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from onecycle._arguments import as_whole
from onecycle._jobs import perform

if TYPE_CHECKING:
    from onecycle._jobs import Job, Result
    from onecycle.tasks import Task

ATTEMPTS = 3  # at a job whose worker dies, before that is told


class Local:
    """Trials in this process, or in processes that share this machine's cores.

    Args:
        workers: processes; 1: this one, and nothing has to be sent anywhere.
        threads: of each process; None: the cores shared out, in this process as it is set.

    Raises:
        ValueError: `workers` or `threads` is below 1.
    """

    def __init__(self, workers: int = 1, threads: int | None = None) -> None:
        self.workers = as_whole("workers", workers)
        self.threads = None if threads is None else as_whole("threads", threads)
        if threads is None and workers > 1:
            self.threads = max((os.cpu_count() or 1) // workers, 1)

        self._pool: ProcessPoolExecutor | None = None
        self._sent = b""

    def run(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Each job with its result as soon as it is done.

        Raises:
            ImportError: cloudpickle, which sends a task to processes, is not installed.
            RuntimeError: worker processes died again and again.
        """
        if self.workers == 1:
            with _threads(self.threads):
                for job in jobs:
                    yield job, perform(task, job)
        elif jobs:
            yield from self._spread(_pack(task), list(jobs))

    def close(self) -> None:
        """End the worker processes; a further run starts new ones."""
        if self._pool is not None:
            # What still runs would be waited for otherwise, with Ctrl-C too.
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
            self._pool = None

    def _spread(self, sent: bytes, left: list[Job]) -> Iterator[tuple[Job, Result]]:
        deaths = 0
        try:
            while left:
                running = {self._submit(sent, job): job for job in left}
                try:
                    while running:
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            job = running.pop(future)
                            result = future.result()
                            left.remove(job)
                            yield job, result
                except BrokenProcessPool:
                    self.close()
                    deaths += 1
                    if deaths == ATTEMPTS:
                        raise RuntimeError(
                            f"a worker process died {ATTEMPTS} times, last with these to do: "
                            f"{', '.join(job.name for job in left[: self.workers])}; finished trials are "
                            "kept. It may lack memory: use fewer workers; a script must start the search "
                            "below if __name__ == '__main__'"
                        ) from None
        except BaseException:
            self.close()
            raise

    def _submit(self, sent: bytes, job: Job) -> Future[Result]:
        if self._pool is None or sent != self._sent:
            self.close()
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, _prepare, (sent, self.threads))
            self._sent = sent
        return self._pool.submit(_perform, job)


def _pack(task: Task) -> bytes:
    """The task as bytes; functions that no worker could import are sent by value."""
    try:
        import cloudpickle
    except ImportError:
        raise ImportError(
            "several workers need cloudpickle: pip install 'onecycle[workers]', or use one worker"
        ) from None
    packed: bytes = cloudpickle.dumps(task)
    return packed


_task: Task


def _prepare(sent: bytes, threads: int | None) -> None:
    import signal

    import cloudpickle

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    _watch_parent()
    global _task
    _task = cloudpickle.loads(sent)
    _set_threads(threads)


def _watch_parent() -> None:
    """End this process when its parent is gone, however that ended."""
    import threading

    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _perform(job: Job) -> Result:
    return perform(_task, job)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = _set_threads(count)
    try:
        yield
    finally:
        _set_threads(before)


def _set_threads(count: int | None) -> int | None:
    """Set torch's threads where torch is loaded or will be; what they were."""
    if count is None:
        return None
    import sys

    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    if "torch" not in sys.modules:
        return None
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before
