"""How the best rate moves with the batch size, over the same samples."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.recipe import files
from benchmarks.recipe.files import Row
from benchmarks.regret import oracle
from benchmarks.regret.measure import Oracle
from benchmarks.regret.tasks import Task, select
from onecycle import tasks
from onecycle._jobs import CYCLED, Job, perform

TASKS = (
    "digits-mlp-momentum",
    "fashion-mlp-sgd",
    "mnist-finetune-momentum",
    "digits-autoencoder-momentum",
    "diabetes-mlp-sgd",
    "wine-mlp-adam",
    "fashion-finetune-adam",
    "china-fourier-adam",
    "mnist-autoencoder-adamw",
    "fashion-noisy-rmsprop",
)
FACTORS = (0.5, 4)  # times the task's own batch, at which the oracle is
SEEDS = 3
ADAM = ("adam", "adamw", "rmsprop")


def record(names: Sequence[str], path: Path) -> dict[str, Any]:
    """Train each task at a grid of rates with other batch sizes; what is in the file is not done again."""
    torch.set_num_threads(1)
    rows = files.rows(path)
    done = {(row["task"], row["factor"], row["quarter"], row["seed"]) for row in rows}
    for task in select(names or TASKS):
        for factor in FACTORS:
            for quarter in _grid(task, factor):
                rows += [
                    _run(task, factor, quarter, seed)
                    for seed in range(SEEDS)
                    if (task.name, factor, quarter, seed) not in done
                ]
        document = files.write(path, "scaling", rows)
    return document


def _grid(task: Task, factor: float) -> range:
    """Quarters of a decade around where the best rate goes, whatever its power of the batch from 0 to 1."""
    best = round(4 * math.log10(Oracle.of(oracle.load(task)).best_rate))
    ends = sorted((best, best + round(4 * math.log10(factor))))
    return range(ends[0] - 2, ends[1] + 3)


def _run(task: Task, factor: float, quarter: int, seed: int) -> Row:
    size = int(task.batch_size * factor)
    steps = round(task.total_steps * task.batch_size / size)
    job = Job("full", "run", seed, steps, size, None, 10 ** (quarter / 4), CYCLED)
    loss = perform(tasks.Task(task.name, task.build), job).loss
    return {
        "task": task.name,
        "factor": factor,
        "batch_size": size,
        "steps": steps,
        "quarter": quarter,
        "seed": seed,
        "loss": loss,
    }


def report(document: dict[str, Any]) -> str:
    """A Markdown table of best rates, and the powers of the batch that they went with."""
    lines = [
        "| task | own batch | best rate | " + " | ".join(f"times {f:g}" for f in FACTORS) + " | power |",
        "|---|---|---|" + "---|" * len(FACTORS) + "---|",
    ]
    powers: dict[str, list[float]] = {"SGD": [], "Adam": []}
    for task in select(sorted({row["task"] for row in document["rows"]})):
        best = {1.0: _best_at_own(task)}
        best.update({f: _best(document["rows"], task, f) for f in FACTORS})
        x, y = np.log10(sorted(best)), np.log10([best[f] for f in sorted(best)])
        power = float(np.polyfit(x, y, 1)[0])
        powers["Adam" if task.optimizer in ADAM else "SGD"].append(power)
        cells = " | ".join(f"{best[f]:.2g}" for f in (1.0, *FACTORS))
        lines.append(f"| {task.name} | {task.batch_size} | {cells} | {power:.2f} |")
    for kind, found in powers.items():
        if found:
            lines.append(
                f"\n{kind}: power of the batch, median {statistics.median(found):.2f}, "
                f"from {min(found):.2f} to {max(found):.2f}, {len(found)} tasks"
            )
    return "\n".join(lines)


def _best_at_own(task: Task) -> float:
    losses: dict[int, list[float]] = defaultdict(list)
    for row in oracle.load(task)["rows"]:
        losses[row["quarter"]].append(math.inf if row["diverged"] else row["val_loss"])
    return _vertex(losses)


def _best(rows: Sequence[Row], task: Task, factor: float) -> float:
    losses: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row["task"] == task.name and row["factor"] == factor:
            losses[row["quarter"]].append(row["loss"])
    return _vertex(losses)


def _vertex(losses: dict[int, list[float]]) -> float:
    """The middle, in decades, of the rates whose mean loss is within 5 % of the least."""
    means = {quarter: statistics.fmean(values) for quarter, values in losses.items()}
    least = min(means.values())
    return float(10 ** (statistics.fmean(q for q, loss in means.items() if loss <= 1.05 * least) / 4))
