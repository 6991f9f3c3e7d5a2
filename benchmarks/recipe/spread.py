"""What spreading trials costs and gains: two workers against one, and a thousand jobs that do almost nil."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.regret import files
from onecycle._files import encode, write_file
from onecycle._jobs import Job, perform
from onecycle.engines import Engine, Local
from onecycle.tasks import Task, resolve

MANY = 1000
PAIRS = 5
EACH = 8  # jobs of a compute-bound stage
STEPS = 150  # of each


class Light:
    """A trial of a few floating-point numbers, so that a job's cost is that of sending it."""

    size = 8

    def __init__(self, seed: int) -> None:
        self.state = np.array([1.0, seed])

    def set(self, **hyper: float) -> None:
        """Nothing has a use for them."""

    def step(self) -> float:
        """One multiplication."""
        self.state[0] *= 0.99
        return float(self.state[0])

    def evaluate(self) -> float | None:
        """There is no validation data."""
        return None

    def save(self) -> Any:
        """A copy."""
        return self.state.copy()

    def restore(self, state: Any) -> None:
        """Copied back."""
        self.state = state.copy()


def light(seed: int) -> Light:
    """A light trial."""
    return Light(seed)


def run(results: Path, many: int = MANY, pairs: int = PAIRS, steps: int = STEPS) -> str:
    """Measure both, write JSON, and return what came out."""
    one, two = Local(1, threads=1), Local(2, threads=1)
    digits = resolve("digits")
    heavy = [Job("rate", "run", seed, steps, max_lr=0.05) for seed in range(EACH)]
    _seconds(two, digits, heavy)  # starts the processes
    ratios = [_seconds(one, digits, heavy) / _seconds(two, digits, heavy) for _ in range(pairs)]
    two.close()
    task = Task("light", light)
    jobs = [Job("rate", "run", seed, 10, max_lr=0.05) for seed in range(many)]
    begin = time.perf_counter()
    for job in jobs:
        perform(task, job)
    bare = time.perf_counter() - begin
    costs = {"bare function": bare / many}
    engines: dict[str, Engine] = {"local, 1": one, "local, 2 processes": two}
    try:
        from onecycle.engines import Ray

        engines["ray"] = Ray()
    except ImportError:
        pass
    for name, engine in engines.items():
        _seconds(engine, task, jobs[:4])
        costs[name] = _seconds(engine, task, jobs) / many
        engine.close()
    document = {
        "format": "onecycle.recipe.spread",
        "version": 1,
        "made_with": [files.made_with()],
        "speed_up_of_two_workers": {
            "min": min(ratios),
            "median": statistics.median(ratios),
            "max": max(ratios),
        },
        "jobs": many,
        "seconds_a_job": costs,
    }
    write_file(results / "spread.json", json.dumps(encode(document), indent=1) + "\n")
    lines = [
        f"two workers against one, {EACH} runs of {steps} updates, {pairs} pairs: "
        f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{many} jobs of ten light updates, milliseconds a job:",
        *(f"  {name:22}{seconds * 1e3:8.2f}" for name, seconds in costs.items()),
    ]
    return "\n".join(lines)


def _seconds(engine: Engine, task: Task, jobs: Sequence[Job]) -> float:
    begin = time.perf_counter()
    found = dict(engine.run(task, jobs))
    assert all(found[job].error is None for job in jobs)
    return time.perf_counter() - begin
