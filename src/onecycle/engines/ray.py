"""Trials on Ray: a laptop's cores or a cluster, by Ray's own scheduler."""

from __future__ import annotations

import contextlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onecycle._arguments import as_whole
from onecycle._jobs import perform

if TYPE_CHECKING:
    from onecycle._jobs import Job, Result
    from onecycle.tasks import Task

_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
RETRIES = 3  # of a job whose worker or node dies


class Ray:
    """Trials on Ray: a laptop's cores or a cluster, by Ray's own scheduler.

    A cluster is joined where `ray start` made one or RAY_ADDRESS names it; else Ray is started here. The
    task is sent by value, with the loaded modules that are not installed: its nodes need Python, this
    library and what else the task has installed, but not its files.

    Args:
        cpus: cores that a trial takes, which are also its threads.
        gpus: share of a GPU that a trial takes: 0.25 runs four on each.

    Raises:
        ImportError: Ray is not installed.
        ValueError: `cpus` or `gpus` is out of its range.
    """

    def __init__(self, cpus: int = 1, gpus: float = 0.0) -> None:
        cpus = as_whole("cpus", cpus)
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
        remote = ray.remote(max_retries=RETRIES, **self._resources)(_perform)
        with _by_value(ray.cloudpickle):
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


@contextlib.contextmanager
def _by_value(pickler: Any) -> Iterator[None]:
    """Have functions and classes of the user's own modules sent as code, not as names to import."""
    own = [module for name, module in list(sys.modules.items()) if name != "__main__" and _is_own(module)]
    sent = [module for module in own if module.__name__ not in pickler.list_registry_pickle_by_value()]
    for module in sent:
        pickler.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in sent:
            pickler.unregister_pickle_by_value(module)


def _is_own(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] == "onecycle":
        return False
    path = Path(file).resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not path.is_relative_to(_STANDARD)


def _perform(task: Task, job: Job, threads: int) -> Result:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return perform(task, job)
