"""Faults in the engines of `tune`: workers that are killed, and a Ray node that dies."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.reliability import files
from benchmarks.reliability.commands import damaged, names, settings, temporary_files
from benchmarks.reliability.faults import Counts, count

FINISHED = (0, 1, 2, 3)  # trials that are there when it strikes


def search(out: Path, engine: Any) -> None:
    """A search of some trials, small enough to be done again for every fault."""
    import onecycle as oc
    from benchmarks.reliability.task import build

    oc.tune(build, total_steps=300, seed=3, engine=engine, out=out, progress=False)


class Search:
    """A search in this process, and what the same one must come to on engines that lose their workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plain = folder, folder / "plain"
        search(self.plain, "local")
        self.trials = names(self.plain)

    def strike(self, counts: Counts, kind: str, at: int, engine: Any, fault: Callable[[], bool]) -> None:
        """Have `fault`, which says whether it struck, when `at` trials are finished; count what was lost."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        ended, struck = threading.Event(), threading.Event()

        def watch() -> None:
            while not ended.is_set():
                if len(names(out)) >= at and (out / "run.json").exists():
                    time.sleep(0.3)  # into the next trial
                    if not ended.is_set() and fault():
                        struck.set()
                        return
                time.sleep(0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        what = ""
        try:
            search(out, engine)
        except Exception as error:  # noqa: BLE001 - whatever comes of the fault is counted
            what = f"the search, which ended with {error!r:.300}"
        finally:
            ended.set()
            thread.join()
        if not struck.is_set() and what:
            raise RuntimeError(f"without a fault: {what}")
        if struck.is_set():
            count(counts, "tune", kind, what or self._lost(out), f"after {at} trials")

    def _lost(self, out: Path) -> str:
        if what := damaged(out):
            return what
        if names(out) != self.trials:
            return "a trial, or its name"
        if settings(out) != settings(self.plain):
            return "the recipe's settings"
        return f"the name of a temporary file: {left}" if (left := temporary_files(out)) else ""


def workers_killed(counts: Counts, tried: Search) -> None:
    """Worker processes of the local engine that are killed; it begins new ones."""
    from onecycle.engines import Local

    for at in FINISHED:
        engine = Local(2)

        def kill(engine: Local = engine) -> bool:
            processes = list(engine._pool._processes or ()) if engine._pool is not None else []
            if processes:
                os.kill(processes[0], signal.SIGKILL)
            return bool(processes)

        try:
            tried.strike(counts, "engine's worker that is killed", at, engine, kill)
        finally:
            engine.close()


def nodes_that_die(counts: Counts, tried: Search) -> None:
    """One of two nodes of a Ray cluster that dies."""
    from onecycle.engines import Ray

    for at in FINISHED:
        with cluster() as doom:
            tried.strike(counts, "Ray node that dies", at, Ray(), doom)


@contextlib.contextmanager
def cluster() -> Iterator[Callable[[], bool]]:
    """A Ray cluster of two nodes on this machine; what it gives has one of them die."""
    ray: Any = importlib.import_module("ray")
    made = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    node = made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield lambda: made.remove_node(node, allow_graceful=False) is None
    finally:
        ray.shutdown()
        made.shutdown()


def record() -> None:
    """Have all faults of engines that are installed, and keep what was counted."""
    with tempfile.TemporaryDirectory() as temporary:
        tried = Search(Path(temporary))
        for package, faults in (("cloudpickle", workers_killed), ("ray", nodes_that_die)):
            if importlib.util.find_spec(package) is None:
                print(f"{package} is not installed: left out", file=sys.stderr)
                continue
            counts: Counts = {}
            faults(counts, tried)
            files.add("faults", {column: vars(row) for column, row in counts.items()})
