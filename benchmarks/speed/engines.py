"""Trials of the local engine over as many bare calls of what does one."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.timing import Make, in_turn, spread
from onecycle._jobs import Job, perform
from onecycle.engines import Local
from onecycle.tasks import resolve

TRIALS, STEPS = 5, 40


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """One row: trials a second of the local engine, and what it takes over the bare calls."""
    import torch

    torch.set_num_threads(1)
    task, steps = resolve("digits"), max(int(STEPS * scale), 10)
    jobs = [Job("search", "run", seed, steps, max_lr=0.1) for seed in range(TRIALS)]

    makes: dict[str, Make] = {
        "bare": lambda: lambda: [perform(task, job) for job in jobs],
        "local": lambda: lambda: list(Local().run(task, jobs)),
    }
    times = in_turn(makes, repeats)
    pairs = zip(times["local"], times["bare"], strict=True)
    return [
        {
            "case": f"{TRIALS} trials of digits, {steps} steps each",
            "contender": "local engine",
            "trials a second": float(f"{TRIALS / min(times['local']):.3g}"),
            "over bare": spread([a / b for a, b in pairs]),
        }
    ]
