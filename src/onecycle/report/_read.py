"""Reading the folder of a run: whatever of its files is there and sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from onecycle._curve import Curve
from onecycle._files import load_json, read_document, read_text
from onecycle._jobs import Job, Result, read_record
from onecycle._recipe import Recipe
from onecycle._train import History

T = TypeVar("T")

STAGES = ("rate", "weight_decay", "momentum", "batch_size", "length", "check", "search")


@dataclass(frozen=True)
class Trial:
    """One job of `tune` that came to its end: the name of its file, what was run, and what came out."""

    name: str
    job: Job
    result: Result

    @property
    def sweep(self) -> bool:
        """Whether it was a range test, not a run of a policy."""
        return self.job.kind == "sweep"

    @property
    def loss(self) -> float:
        """What it is judged by; infinite where it diverged."""
        return math.inf if self.result.diverged else self.result.loss

    def setting(self, name: str) -> float | None:
        """A number of the job; the low end of a momentum range, which the peak rate goes with."""
        value: Any = getattr(self.job, name)
        found: float | None = value[-1] if isinstance(value, tuple) else value
        return found

    def history(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and losses of a run: "loss" of its batches, "val" of the validation set; empty if unknown."""
        record = self.result.history
        if record is None:
            return [], []
        if name == "val":
            return [step for step, _ in record["val"]], [loss for _, loss in record["val"]]
        return record["step"], record["loss"]


@dataclass
class Run:
    """All that a folder holds.

    Attributes:
        path: the folder.
        info: what run.json says.
        recipe: recipe.toml, None without one.
        curves: range tests by name.
        histories: training runs by file name: metrics.csv, baseline.csv.
        trials: finished jobs of `tune`, in the order of its stages.
        problems: one line for each file that could not be read.
    """

    path: Path
    info: dict[str, Any]
    recipe: Recipe | None = None
    curves: dict[str, Curve] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """What the command was called with."""
        settings = self.info.get("settings")
        return settings if isinstance(settings, dict) else {}

    def fact(self, name: str) -> Any:
        """A field of run.json, or else one of its settings."""
        return self.info.get(name, self.settings.get(name))


def read(folder: Path) -> Run:
    """Read a folder that a command filled by --out.

    Raises:
        FileNotFoundError: it holds no run.json.
        ValueError: run.json is something else, or damaged.
    """
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no run.json: name a folder that demo, find, tune or train filled by --out"
        )
    info = _run_json(folder / "run.json")
    run = Run(folder, info)

    def attempt(path: Path, how: Callable[[Path], T]) -> T | None:
        try:
            return how(path)
        except (ValueError, TypeError, KeyError, OSError) as error:
            text = " ".join(str(error).split())
            run.problems.append(f"{path.relative_to(folder)} could not be read: {text[:300]}")
            return None

    if (folder / "recipe.toml").is_file():
        run.recipe = attempt(folder / "recipe.toml", Recipe.load)
    for path in sorted(folder.glob("curves/*.json")):
        if (curve := attempt(path, Curve.load)) is not None:
            run.curves[path.stem] = curve
    for name in ("metrics.csv", "baseline.csv"):
        if (folder / name).is_file():
            history = attempt(folder / name, _history)
            if history is not None and history.rows:
                run.histories[name] = history
    for path in sorted(folder.glob("trials/*.json")):
        if (record := attempt(path, read_record)) is not None:
            run.trials.append(Trial(path.stem, *record))
    order = {stage: i for i, stage in enumerate(STAGES)}
    run.trials.sort(key=lambda trial: order.get(trial.job.stage, len(order)))
    return run


def _run_json(path: Path) -> dict[str, Any]:
    fields = ("command", "status", "settings", "versions")
    read_document(read_text(path), "onecycle.run", 1, dict.fromkeys(fields, object), str(path))
    document: dict[str, Any] = load_json(read_text(path))
    return document


def _history(path: Path) -> History:
    history = History.load(path)
    for i, row in enumerate(history.rows):
        if "step" not in row or "loss" not in row:
            raise ValueError(f"row {i} has no step or no loss")
    return history


def numeric(value: Any) -> float | None:
    """The value as a float where it is a number, else None; infinite where it is too large for a float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
