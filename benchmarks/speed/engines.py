"""Trials of each engine over as many bare calls of what does one."""

from __future__ import annotations

import contextlib
import pickle
import time
from functools import partial
from typing import Any

from benchmarks.speed.files import installed
from benchmarks.speed.timing import Make, in_turn, spread
from onecycle._jobs import Job, perform
from onecycle.engines import Engine, Local
from onecycle.engines.local import _pack
from onecycle.tasks import Task, resolve

TRIALS, STEPS, WORKERS = 16, 40, 2


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """One row an engine: trials a second, what it takes over the bare calls, and the bytes that it sends.

    On the wall, with workers that have started; one thread each.
    """
    import torch

    torch.set_num_threads(1)
    task, steps = resolve("digits"), max(int(STEPS * scale), 10)
    jobs = [Job("search", "run", seed, steps, max_lr=0.1) for seed in range(TRIALS if scale >= 1 else 2)]
    engines: dict[str, Engine] = {"local engine": Local()}
    if scale >= 1:
        engines[f"local engine, {WORKERS} processes"] = Local(WORKERS, threads=1)
        if installed("ray"):
            from onecycle.engines import Ray

            engines["Ray"] = Ray()
    makes: dict[str, Make] = {"bare": lambda: lambda: [perform(task, job) for job in jobs]}
    makes |= {name: partial(_all, engine, task, jobs) for name, engine in engines.items()}
    with contextlib.ExitStack() as stack:
        for engine in engines.values():
            stack.callback(engine.close)
        times = in_turn(makes, repeats, time.perf_counter)
        workers = {name: engine.workers for name, engine in engines.items()}
    return [
        {
            "case": f"{len(jobs)} trials of digits, {steps} steps each",
            "contender": name,
            "workers": workers[name],
            "trials a second": float(f"{len(jobs) / min(times[name]):.3g}"),
            "over bare": spread([a / b for a, b in zip(times[name], times["bare"], strict=True)]),
            "bytes with a trial": 0 if name == "local engine" else len(pickle.dumps(jobs[0])),
            "bytes with the task, once": 0 if name == "local engine" else len(_pack(task)),
        }
        for name in engines
    ]


def _all(engine: Engine, task: Task, jobs: list[Job]) -> Any:
    return lambda: list(engine.run(task, jobs))
