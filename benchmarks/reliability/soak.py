"""Long runs in one process: what grows, and how long large curves take."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onecycle as oc
from benchmarks.reliability import files
from benchmarks.reliability.faults import range_test
from benchmarks.reliability.problem import Problem
from onecycle.torch import Scheduler


def held() -> dict[str, int]:
    """What this process holds: memory in KiB, threads, open files, Python's objects."""
    gc.collect()
    with suppress(AttributeError, OSError):  # what the C library keeps of what it was given back is no growth
        ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    resident = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    descriptors = Path("/proc/self/fd")
    return {
        "memory": resident or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "threads": threading.active_count(),
        "files": len(list(descriptors.iterdir())) if descriptors.is_dir() else 0,
        "objects": len(gc.get_objects()),
    }


def hooks(problem: Problem) -> int:
    """Hooks on the problem's model, its weights and its optimizer."""
    dictionaries = [
        value
        for owner in (*problem.model.modules(), problem.optimizer)
        for name, value in vars(owner).items()
        if "hook" in name and isinstance(value, dict)
    ]
    dictionaries += [p._backward_hooks for p in problem.model.parameters() if p._backward_hooks]
    return sum(map(len, dictionaries))


def range_tests(count: int) -> dict[str, Any]:
    """Range tests of one model, after as many before, which must all give the same curve."""
    problem = Problem()
    first = range_test(problem)
    for _ in range(count):  # the C library's room grows at first, and levels off within two thousand
        range_test(problem)
    before, hooks_before = held(), hooks(problem)
    begin = time.perf_counter()
    same = sum(range_test(problem) == first for _ in range(count))
    seconds = time.perf_counter() - begin
    return {
        "range tests": count,
        "steps": 30 * count,
        "same curve": same,
        "seconds": round(seconds, 1),
        **_growth(before),
        "hooks": hooks(problem) - hooks_before,
    }


def schedule_steps(count: int) -> dict[str, Any]:
    """Steps of a scheduler, in an optimizer's own loop, past the policy's end."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    policy = oc.one_cycle(0.8, count // 2)
    scheduler = Scheduler(optimizer, policy)
    for _ in range(1000):
        scheduler.step()
    before = held()
    begin = time.perf_counter()
    for _ in range(count - 1000):
        scheduler.step()
    seconds = time.perf_counter() - begin
    assert scheduler.last_epoch == count
    assert optimizer.param_groups[0]["lr"] == policy(count)["lr"]
    return {"steps": count, "seconds": round(seconds, 1), **_growth(before)}


def large_curve(points: int) -> dict[str, Any]:
    """A curve of many points: written, read, smoothed, read for a rate, drawn; seconds of processor time."""
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-7, 10, points)
    losses = 2.3 / (1 + (rates / 1e-2) ** 0.5) + (rates / 2) ** 2 + 0.05 * rng.normal(size=points)
    curve = oc.Curve(rates, losses)
    took: dict[str, float] = {}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        begin = time.process_time()
        result = act()
        took[name] = round(time.process_time() - begin, 2)
        return result

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        timed("write JSON", lambda: curve.save(folder / "curve.json"))
        timed("write CSV", lambda: curve.to_csv(folder / "curve.csv"))
        assert timed("read JSON", lambda: oc.Curve.load(folder / "curve.json")) == curve
        assert len(timed("read CSV", lambda: oc.Curve.from_csv(folder / "curve.csv"))) == points
        timed("suggest", curve.suggest)
        timed("draw", lambda: curve.plot(folder / "curve.png"))
    return {"points": points, **took}


def _growth(before: dict[str, int]) -> dict[str, int]:
    return {f"more {name}": now - before[name] for name, now in held().items()}


def record(share: float) -> None:
    """Run all three at `share` of their length, and keep the figures."""
    torch.set_num_threads(1)
    for name, run, size in (
        ("range tests", range_tests, 2000),
        ("schedule steps", schedule_steps, 10_000_000),
        ("large curve", large_curve, 1_000_000),
    ):
        row = run(int(size * share))
        files.add("soak", {name: row})
        print(f"{name}: {row}", file=sys.stderr)
