"""Runs the comparison on tasks that no constant was chosen by, and keeps it, a JSON file a task."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.recipe import methods
from benchmarks.regret import files
from benchmarks.regret.data import ROOT
from benchmarks.regret.tasks import Task, select

RESULTS = ROOT / "benchmarks" / "results" / "recipe"
SEEDS = (0, 1, 2)
# Of the half that no constant was chosen by, the twenty quickest whose loss is positive.
TASKS = (
    "cancer-mlp-rmsprop",
    "china-coordinates-nesterov",
    "cifar-finetune-momentum",
    "cifar-fourier-momentum",
    "cifar-pixels-nesterov",
    "diabetes-dropout-adam",
    "digits-deep-sgd",
    "digits-mlp-adam",
    "fashion-batchnorm-adam",
    "fashion-cnn-momentum",
    "fashion-noisy-nesterov",
    "iris-column-sgd",
    "iris-mlp-adamw",
    "mnist-dropout-momentum",
    "mnist-groupnorm-nesterov",
    "mnist-mlp-sgd",
    "mnist-noisy-adam",
    "mnist-tanh-momentum",
    "wine-column-rmsprop",
    "wine-mlp-nesterov",
)


def run(
    names: Sequence[str] = (), seeds: Sequence[int] = SEEDS, only: Sequence[str] = (), results: Path = RESULTS
) -> None:
    """Do what is not there yet, seed by seed over all tasks; a second start goes on."""
    torch.set_num_threads(1)
    for seed in seeds:
        for task in select(list(names or TASKS), None):
            _one(task, seed, only, results)


def _one(task: Task, seed: int, only: Sequence[str], results: Path) -> None:
    path = results / f"{task.name}.json"
    document = files.read(path, "recipe", task)
    there = {(row["method"], row["cost"]) for row in document["rows"] if row["seed"] == seed}

    def wanted(method: str, cost: float) -> bool:
        return (not only or method in only) and (method, round(cost, 4)) not in there

    found = methods.rows(task, seed, wanted)
    if found:
        for row in found:
            print(f"{task.name}: {row.pop('said')}", file=sys.stderr, flush=True)
        document["rows"] = sorted(
            [*document["rows"], *found], key=lambda row: (row["method"], row["cost"], row["seed"])
        )
        files.write(path, document)
