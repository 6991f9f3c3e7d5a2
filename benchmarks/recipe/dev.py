"""`tune` on tasks of dev, over the best of the oracle: what its constants are chosen by."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.recipe import files, methods
from benchmarks.recipe.files import Row
from benchmarks.regret import oracle
from benchmarks.regret.measure import DIVERGED, Oracle
from benchmarks.regret.tasks import select

# Small data or squared losses, which tune found hard; all quick.
TASKS = (
    "cancer-mlp-nesterov",
    "wine-mlp-adam",
    "diabetes-mlp-sgd",
    "diabetes-column-momentum",
    "cancer-column-momentum",
    "digits-autoencoder-momentum",
    "digits-mlp-momentum",
)
SEEDS = (0, 1)
FRESH = range(100, 106)  # by which recipes are judged


def record(names: Sequence[str], budgets: Sequence[float], path: Path) -> list[Row]:
    """Search, and train what is found with fresh seeds; what is in the file is not done again."""
    torch.set_num_threads(1)
    rows = files.rows(path)
    done = {(row["task"], row["budget"], row["seed"]) for row in rows}
    for task in select(names or TASKS, "dev"):
        best = Oracle.of(oracle.load(task)).best
        for budget in budgets:
            for seed in SEEDS:
                if (task.name, budget, seed) in done:
                    continue
                recipe = methods.tuned(task, seed, budget)
                losses = [methods.train(task, recipe, fresh) for fresh in FRESH]
                ratios = [math.exp(min(x - best, 50.0)) if task.signed else x / best for x in losses]
                over = statistics.fmean(min(ratio, DIVERGED) for ratio in ratios)
                rows.append({"task": task.name, "budget": budget, "seed": seed, "over best": round(over, 4)})
                print(f"{task.name}, budget {budget:g}, seed {seed}: {over:.3f}", file=sys.stderr, flush=True)
                files.write(path, "dev", rows)
    return rows


def report(rows: Sequence[Row]) -> str:
    """Markdown: for each task and in all, the mean over seeds of the final loss over the oracle's best."""
    budgets = sorted({row["budget"] for row in rows})
    names = list(dict.fromkeys(row["task"] for row in rows))
    means = {
        (name, budget): statistics.fmean(
            row["over best"] for row in rows if (row["task"], row["budget"]) == (name, budget)
        )
        for name in names
        for budget in budgets
    }
    lines = [
        ["task", *(f"budget {budget:g}" for budget in budgets)],
        ["---"] * (1 + len(budgets)),
        *([name, *(f"{means[name, budget]:.2f}" for budget in budgets)] for name in names),
    ]
    whole = [statistics.geometric_mean(means[name, budget] for name in names) for budget in budgets]
    lines.append(["geometric mean", *(f"{mean:.3f}" for mean in whole)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
