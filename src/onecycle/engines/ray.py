"""Trials on Ray: a laptop's cores or a cluster, by Ray's own scheduler."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from onecycle._jobs import perform

if TYPE_CHECKING:
    from onecycle._jobs import Job, Result
    from onecycle.tasks import Task

RETRIES = 3  # of a job whose worker or node dies


class Ray:
    """Trials on Ray: a laptop's cores or a cluster, by Ray's own scheduler.

    A cluster is joined where `ray start` made one or RAY_ADDRESS names it; else Ray is started here. The
    task is sent by value, with the file that it is defined in.

    Args:
        cpus: cores that a trial takes, which are also its threads.
        gpus: share of a GPU that a trial takes: 0.25 runs four on each.

    Raises:
        ImportError: Ray is not installed.
        ValueError: `cpus` or `gpus` is out of its range.
    """

    def __init__(self, cpus: int = 1, gpus: float = 0.0) -> None:
        if not isinstance(cpus, int) or cpus < 1:
            raise ValueError(f"cpus must be a whole number >= 1, got {cpus!r}")
        if not (isinstance(gpus, (int, float)) and gpus >= 0):
            raise ValueError(f"gpus must be a share of a GPU >= 0, got {gpus!r}")
        try:
            import ray
        except ImportError:
            raise ImportError("the Ray engine needs Ray: pip install 'onecycle[ray]'") from None
        self._ray = ray
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._threads = cpus
        self._started = False

    @property
    def workers(self) -> int:
        """How many trials the cluster has room for."""
        self._connect()
        have = self._ray.cluster_resources()
        room = [have.get("CPU", 0) / self._resources["num_cpus"]]
        if self._resources["num_gpus"]:
            room.append(have.get("GPU", 0) / self._resources["num_gpus"])
        return max(int(min(room)), 1)

    def run(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Each job with its result as soon as it is done."""
        if not jobs:
            return
        self._connect()
        ray = self._ray
        module = sys.modules.get(getattr(task.build, "__module__", ""))
        if module is not None and not _installed(module):
            ray.cloudpickle.register_pickle_by_value(module)
        remote = ray.remote(max_retries=RETRIES, **self._resources)(_perform)
        sent = ray.put(task)
        running = {remote.remote(sent, job, self._threads): job for job in jobs}
        try:
            while running:
                for reference in ray.wait(list(running))[0]:
                    job = running.pop(reference)
                    yield job, ray.get(reference)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _connect(self) -> None:
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
            self._started = True


def _installed(module: Any) -> bool:
    # What lies in site-packages is on every node, what the user wrote is not.
    return "site-packages" in (getattr(module, "__file__", None) or "site-packages")


def _perform(task: Task, job: Job, threads: int) -> Result:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return perform(task, job)
