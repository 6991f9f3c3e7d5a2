"""Measured noise scales against those from the gradients of all training samples, during training."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks.recipe import files
from benchmarks.regret.tasks import LOSSES, Task, select
from onecycle._noise import NoiseScale
from onecycle._trial import preserved
from onecycle.torch import Trial, noise_scale
from onecycle.torch._noise import _gradient, _keeper

TASKS = (
    "digits-mlp-momentum",
    "mnist-cnn-sgd",
    "mnist-autoencoder-adamw",
    "text-transformer-adamw",
    "fashion-noisy-rmsprop",
    "cifar-density-adam",
)
POINTS = (0.0, 0.1, 0.5, 0.9)  # shares of the training
SEEDS = 5  # measurements at each
PAIRS, SMALL = 16, 4  # pairs of a batch and of `SMALL` of them together, for the two batch sizes
CHUNK = 100  # samples whose gradients are in memory at once


def record(names: Sequence[str], path: Path) -> dict[str, Any]:
    """Train each task with 1cycle at its usual rate, measure on the way, and write what came out.

    What the file has of other tasks stays.
    """
    torch.set_num_threads(1)
    rows = [row for row in files.rows(path) if row["task"] not in names]
    rows += [row for task in select(names) for row in _measure(task)]
    rows.sort(key=lambda row: (TASKS.index(row["task"]) if row["task"] in TASKS else len(TASKS), row["step"]))
    return files.write(path, "noise", rows, points=list(POINTS))


def report(document: dict[str, Any]) -> str:
    """A Markdown table, and how often the measurements were within a factor of 1.5."""
    lines = [
        "| task | batch | step | samples | from full gradients | measured (5 seeds) | samples used "
        "| two batch sizes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    near: list[bool] = []
    held: list[bool] = []
    told: list[bool] = []
    for row in document["rows"]:
        exact, found = row["exact"]["value"], row["measured"]
        values = sorted(each["value"] for each in found)
        for each in found:
            told.append(bool(np.isfinite(each["high"])))
            near.append(exact / 1.5 <= each["value"] <= 1.5 * exact)
            held.append(each["low"] <= exact <= each["high"])
        lines.append(
            f"| {row['task']} | {row['batch_size']} | {row['step']} | {row['samples']} | {exact:.3g} "
            f"| {statistics.median(values):.3g} ({values[0]:.3g} to {values[-1]:.3g}) "
            f"| {statistics.median(each['samples'] for each in found):.0f} | {_of_two(row['two_sizes'])} |"
        )
    sure = [a for a, b in zip(near, told, strict=True) if b]
    lines += [
        "",
        f"{sum(told)} of {len(told)} measurements tell; {sum(sure)} of these are within a factor of 1.5, and "
        f"{sum(near)} of all; {sum(held)} of all intervals hold the value from full gradients",
    ]
    return "\n".join(lines)


def _of_two(found: dict[str, Any]) -> str:
    high = "no end" if found["high"] == np.inf else f"{found['high']:.3g}"
    return f"{found['value']:.3g} ({found['low']:.3g} to {high})"


def _measure(task: Task) -> list[dict[str, Any]]:
    trial, policy = task.build(0), task.policy(task.usual_lr)
    rows: list[dict[str, Any]] = []
    points = [round(share * task.total_steps) for share in POINTS]
    for step in range(points[-1] + 1):
        if step in points:
            row = {
                "task": task.name,
                "batch_size": task.batch_size,
                "step": step,
                **_exact(task, trial),
                "measured": [
                    {"seed": seed, **_short(noise_scale(trial, seed=seed))} for seed in range(SEEDS)
                ],
                "two_sizes": _short(_two_sizes(trial)),
            }
            print(f"{task.name}, step {step}", flush=True)
            rows.append(row)
        trial.set(**policy(step))
        trial.step()
    return rows


def _exact(task: Task, trial: Trial) -> dict[str, Any]:
    """The definition: covariance and mean of the gradients of all samples, each computed for itself."""
    model, loss_fn = trial._model, LOSSES[task.loss]
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(functional_call(model, weights, (x[None],)), y[None])

    each = vmap(grad(loss), (None, 0, 0))
    inputs, targets = task.load().train
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in weights.items()}
    squares = 0.0
    model.train()
    for x, y in zip(torch.split(inputs, CHUNK), torch.split(targets, CHUNK), strict=True):
        for name, rows in each(weights, x, y).items():
            total[name] += rows.sum(0)
            squares += float(rows.square().flatten(1).sum(1).double().sum())
    count = len(inputs)
    signal = sum(float(t.square().sum()) for t in total.values()) / count**2
    noise = (squares - count * signal) / (count - 1)
    return {"samples": count, "exact": {"value": noise / signal, "noise": noise, "signal": signal}}


def _two_sizes(trial: Trial) -> NoiseScale:
    """McCandlish's estimator: batches, and `SMALL` of them together, in pairs."""
    with preserved(trial):
        trial.seed(0)
        keep = _keeper(trial)
        small, large, size = [], [], 0
        for _ in range(PAIRS):
            rows = []
            for _ in range(SMALL):
                size = _gradient(trial)
                rows.append(keep())
            small.append(float(np.mean([row @ row for row in rows])))
            mean = np.mean(rows, axis=0)
            large.append(float(mean @ mean))
    return NoiseScale.from_norms(small, large, size, SMALL * size)


def _short(found: NoiseScale) -> dict[str, Any]:
    return {
        "value": float(f"{found.value:.4g}"),
        "low": float(f"{found.low:.4g}"),
        "high": float(f"{found.high:.4g}"),
        "samples": found.samples,
    }
