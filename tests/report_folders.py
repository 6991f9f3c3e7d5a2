"""Folders as the commands fill them, in the formats that they write, from made-up losses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from onecycle import Curve, Recipe, one_cycle
from onecycle._files import encode, load_json
from onecycle._jobs import Job, Result, write_record
from onecycle._train import History

VERSIONS = {"onecycle": "0.1.0", "numpy": "2.0.0", "python": "3.11.0"}


def curve(seed: int = 0, factor: float = 1.0, points: int = 100) -> Curve:
    """A range test that falls, turns and diverges; its least loss is at 0.1 times the factor."""
    rate = np.geomspace(1e-6, 10, points)
    fall = 2.0 / (1 + (rate / (0.01 * factor)) ** 1.5)
    loss = 0.4 + fall + np.minimum((rate / (0.5 * factor)) ** 2, 30)
    loss = loss + np.random.default_rng(seed).normal(0, 0.03, points)
    facts = {"optimizer": "SGD", "momentum": 0.9, "steps_per_epoch": points}
    return Curve(rate, loss, seed=np.full(points, seed), settings={"trial": facts})


def write_run(folder: Path, command: str, status: str = "done", **facts: Any) -> None:
    """run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"task": "digits", "seed": 0, "total_steps": 200}
    document = {
        "format": "onecycle.run", "version": 1, "command": command, "settings": settings,
        "versions": VERSIONS, "status": status, **facts,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(encode(document), allow_nan=False))


def find_folder(folder: Path) -> Path:
    """What `find` leaves, with pilots."""
    pilots = [
        {"max_lr": rate, "steps": 40, "loss": loss}
        for rate, loss in ((0.003, 0.9), (0.01, 0.7), (0.03, 0.5), (0.1, math.inf))
    ]
    write_run(folder, "find", pilots=pilots, cost=260, total_steps=1000, reason="pilots")
    (folder / "curves").mkdir()
    curve().save(folder / "curves/lr.json")
    Recipe(
        0.03, interval=(0.01, 0.1), weight_decay=5e-4, batch_size=64, total_steps=1000,
        evidence={"task": "digits", "rule": "pilots", "reason": "the one at 0.03 ended lowest",
                  "pilots": pilots},
    ).save(folder / "recipe.toml")  # fmt: skip
    return folder


def train_folder(folder: Path, steps: int = 200) -> Path:
    """What `train` leaves."""
    policy = one_cycle(0.1, steps)
    rng = np.random.default_rng(0)
    rows = [
        {"step": step, **policy(step), "loss": 2 * math.exp(-3 * step / steps) * float(rng.uniform(0.9, 1.1))}
        for step in range(steps)
    ]
    for step in range(19, steps, 20):
        rows[step] |= {"val_loss": rows[step]["loss"] * 1.1, "accuracy": 1 - rows[step]["loss"] / 3}
    write_run(folder, "train", total_steps=steps, loss=rows[-1]["loss"])
    History(rows).save(folder / "metrics.csv")
    return folder


def tune_folder(folder: Path, trials: int = 200) -> Path:
    """What `tune` leaves: sweeps for rate and weight decay, runs for the rest, some of them diverged."""
    write_run(folder, "tune", budget=1.0)
    (folder / "trials").mkdir()
    (folder / "curves").mkdir()
    curve().save(folder / "curves/lr.json")
    rng = np.random.default_rng(1)
    shares = {"rate": 3, "weight_decay": 8, "momentum": 5, "batch_size": 5, "length": 3, "check": 3}
    plan = [stage for stage, n in shares.items() for _ in range(n)]
    plan = [*plan, *["search"] * trials][:trials]
    names: dict[str, list[str]] = {}
    for i, stage in enumerate(plan):
        nth = len(names.setdefault(stage, []))
        sweep = stage == "rate" or (stage == "weight_decay" and nth < 4)
        decay = [0.0, 1e-5, 1e-4, 1e-3][nth % 4] if stage == "weight_decay" else 1e-4
        peak = float(10 ** rng.uniform(-3, 0.3)) if stage == "search" else 0.05
        batch = [32, 64, 128, 256, 512][nth % 5] if stage == "batch_size" else 64
        steps = [200, 400, 800][nth % 3] if stage == "length" else 400
        low = [0.8, 0.85, 0.9, 0.95, 0.99][nth % 5] if stage == "momentum" else 0.85
        lost = peak > 1.0
        final = 0.4 + 0.2 * math.log10(peak / 0.05) ** 2 + 0.03 * abs(math.log10(decay + 1e-6) + 4)
        final += 0.5 * abs(low - 0.85) + 0.05 * abs(math.log2(batch / 64)) + float(rng.normal(0, 0.01))
        made = Job(
            stage, "sweep" if sweep else "run", nth, steps, batch, decay, start=1e-6,
            max_lr=None if sweep else peak, momentum=(0.95, low) if low < 0.95 else low,
        )  # fmt: skip
        step = list(range(0, steps, max(steps // 200, 1)))
        result = Result(
            math.inf if lost else final, final * 0.8, final, lost, steps * batch, steps * 0.004,
            metrics={"accuracy": 1 - final / 3},
            curve=load_json(curve(nth, 1 + 100 * decay).to_json()) if sweep else None,
            history=None if sweep else {
                "step": step,
                "loss": [final + 2 * math.exp(-5 * s / steps) * float(rng.uniform(0.8, 1.2)) for s in step],
                "val": [[s, final + 2 * math.exp(-5 * s / steps)] for s in step[::20]],
            },
        )  # fmt: skip
        name = f"{stage}-{i:08x}"
        names[stage].append(name)
        (folder / "trials" / f"{name}.json").write_text(write_record(made, result))
    found: list[tuple[str, Any, float, float, str, str]] = [
        ("max_lr", 0.05, 0.02, 0.12, "three range tests agree", "rate"),
        ("weight_decay", 1e-4, 1e-5, 1e-3, "its runs ended lowest", "weight_decay"),
        ("momentum", [0.95, 0.85], 0.8, 0.9, "no other ended lower", "momentum"),
        ("batch_size", 64, 32, 128, "least loss for the samples", "batch_size"),
        ("total_steps", 400, 200, 800, "longer gains little", "length"),
    ]
    keys = ("what", "value", "low", "high", "reason", "trials")
    decisions = [dict(zip(keys, (*row[:-1], names[row[-1]]), strict=True)) for row in found]
    Recipe(
        0.05, interval=(0.02, 0.12), weight_decay=1e-4, batch_size=64, total_steps=400,
        evidence={"task": "digits", "seed": 0, "versions": VERSIONS, "budget": 1.0,
                  "cost": 0.93, "decisions": decisions},
    ).save(folder / "recipe.toml")  # fmt: skip
    return folder
