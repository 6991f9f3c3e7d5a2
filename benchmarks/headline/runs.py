"""One training run described by plain values, what came out of it, and the file that keeps both."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import onecycle as oc
from benchmarks.regret.data import ROOT
from benchmarks.regret.files import made_with
from onecycle._files import decode, encode, write_file
from onecycle._find import search as search
from onecycle._trial import preserved
from onecycle.tasks import cifar10
from onecycle.torch import Trial

RESULTS = ROOT / "benchmarks" / "results" / "headline"
FOUND = "found"  # in place of a rate: find it first
BUDGET = 0.2  # of the run's length, for finding it
HELD_OUT = 5000  # images at the end of the training set
Row = dict[str, Any]
Schedule = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True)
class Run:
    """A training run; two that are equal give the same result on the same machine.

    Args:
        label: what is compared; runs of one label differ in the seed alone.
        net: a function of `onecycle.tasks.cifar10`.
        epochs: length; `steps` in its place where that is given.
        schedule: `kind`, a key of `SCHEDULES`, and its values; a `max_lr` of "found" is found first.
        options: of the task.
        budget: share of the length that may go into finding the rate.
    """

    label: str
    net: str
    seed: int
    schedule: Mapping[str, Any]
    epochs: float = 0.0
    steps: int | None = None
    batch_size: int | None = None
    weight_decay: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: float = BUDGET

    def build(self, **options: Any) -> Trial:
        """Its trial, seeded."""
        given = {"batch_size": self.batch_size, "weight_decay": self.weight_decay}
        given = {name: value for name, value in given.items() if value is not None}
        trial: Trial = getattr(cifar10, self.net)(self.seed, **given, **self.options, **options)
        trial.seed(self.seed)
        return trial

    def length(self, trial: Trial) -> int:
        """Updates."""
        assert trial.steps_per_epoch is not None
        return self.steps or max(round(self.epochs * trial.steps_per_epoch), 1)


# Schedules ------------------------------------------------------------------------------------------


def _constant(_steps: int, *, lr: float, momentum: float = 0.9) -> Schedule:
    return lambda _: {"lr": lr, "momentum": momentum}


def _step(
    steps: int,
    *,
    lr: float,
    momentum: float = 0.9,
    at: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> Schedule:
    def values(step: int) -> dict[str, float]:
        passed = sum(step >= share * steps for share in at)
        return {"lr": lr * factor**passed, "momentum": momentum}

    return values


def _cosine(steps: int, *, lr: float, momentum: float = 0.9) -> Schedule:
    schedule = oc.cosine(lr, 0.0, steps)
    return lambda step: {"lr": float(schedule(step)), "momentum": momentum}


def _one_cycle(steps: int, **values: Any) -> Schedule:
    if isinstance(values.get("momentum"), list):
        values["momentum"] = tuple(values["momentum"])
    return oc.one_cycle(total_steps=steps, **values)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": _constant,
    "step": _step,  # as He et al. 2015: a tenth after half, and again after three quarters
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}


def schedule(values: Mapping[str, Any], steps: int) -> Schedule:
    """The schedule that `values` describe, over `steps` updates."""
    return SCHEDULES[values["kind"]](steps, **{name: v for name, v in values.items() if name != "kind"})


# Running --------------------------------------------------------------------------------------------


def perform(run: Run, *, held_out: bool = False, every_epoch: bool = True, progress: bool = True) -> Row:
    """Train as `run` says, with a look at the whole test set after each epoch, or at the end alone.

    The row holds the settings; `looks`: step, losses, test accuracy and the counts of right answers since
    the last; `accuracy`: the last; `held_out`: accuracy on the held-out images, if asked for; and the
    seconds of training, looks included, those of compiling apart. A found rate, what it cost and what it
    rests on are in `found`.
    """
    row: Row = {**asdict(run), "diverged": False}
    trial = run.build()
    steps = run.length(trial)
    values = dict(run.schedule)
    if values.get("max_lr") == FOUND:
        row["found"] = found = find(run, steps)
        values["max_lr"] = found["max_lr"]
    row["seconds_of_compiling"] = _compile(trial) if run.options.get("compile") else 0.0
    right = _Right(trial)
    row["looks"] = looks = []

    def look(history: oc.History) -> None:
        last = history.rows[-1]
        recent = history.rows[-(trial.steps_per_epoch or 1) :]
        looks.append(
            {
                "step": last["step"] + 1,
                "train_loss": sum(r["loss"] for r in recent) / len(recent),
                "val_loss": last["val_loss"],
                "accuracy": last["accuracy"],
                **right.read(),
            }
        )

    begin, processor = time.perf_counter(), time.process_time()
    history = oc.train(
        trial,
        schedule(values, steps),
        total_steps=steps,
        evaluate_every=trial.steps_per_epoch if every_epoch else None,
        after_evaluation=look,
        progress=progress,
        title=f"{run.label}, seed {run.seed}",
    )
    row["seconds"] = time.perf_counter() - begin
    row["processor_seconds"] = time.process_time() - processor
    row["steps_done"] = len(history.rows)
    row["diverged"] = history.diverged
    row["accuracy"] = 0.1 if history.diverged else history.last("accuracy")
    if held_out:
        row["held_out"] = 0.1 if history.diverged else accuracy_held_out(trial)
    return row


def _compile(trial: Trial) -> float:
    """Have a compiled net compiled, and put the trial back; the seconds that this took."""
    begin = time.perf_counter()
    with preserved(trial):
        trial.set(lr=0.0)
        float(trial.step())
        trial.evaluate()
    return time.perf_counter() - begin


def find(run: Run, steps: int, held_out: int | None = None) -> Row:
    """Peak rate for `run` by `find_lr` on the training set alone, its last images held out."""
    trial = run.build(holdout=HELD_OUT if held_out is None else held_out)
    begin = time.perf_counter()
    found = search(trial, total_steps=steps, budget=run.budget, seed=run.seed, progress=False)
    return {
        "max_lr": found.suggestion.max_lr,
        "low": found.suggestion.low,
        "high": found.suggestion.high,
        "rule": found.suggestion.rule,
        "reason": found.suggestion.reason,
        "cost": found.cost,
        "seconds": time.perf_counter() - begin,
        "curve": json.loads(found.curve.to_json()),
        "pilots": [[pilot.max_lr, pilot.steps, pilot.loss] for pilot in found.pilots],
    }


def accuracy_held_out(trial: Trial, count: int = HELD_OUT) -> float:
    """Accuracy on the last `count` images of the training set, which it must not have been trained on."""
    images = cifar10.load()
    tested = trial._val_loader  # a trial has one validation set, and here the test set is watched too
    device = next(trial._model.parameters()).device
    trial._val_loader = cifar10.evaluated(images.train[-count:], images.train_labels[-count:], device)
    try:
        trial.evaluate()
    finally:
        trial._val_loader = tested
    return trial.metrics["accuracy"]


class _Right:
    """Counts right answers in training and in evaluation, on the device, where a trial's loss is computed."""

    def __init__(self, trial: Trial) -> None:
        loss = trial._loss_fn
        assert loss is not None
        self._counts: dict[str, Any] = {}

        def counted(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            half = "train" if torch.is_grad_enabled() else "test"
            right = (output.detach().argmax(1) == target).sum()
            self._counts[f"{half}_right"] = self._counts.get(f"{half}_right", 0) + right
            self._counts[f"{half}_seen"] = self._counts.get(f"{half}_seen", 0) + len(target)
            return loss(output, target)

        trial._loss_fn = counted

    def read(self) -> dict[str, int]:
        """The counts since this was last called."""
        counts, self._counts = {name: int(count) for name, count in self._counts.items()}, {}
        return counts


# Files ----------------------------------------------------------------------------------------------


class Results:
    """What an experiment has come to so far, in one JSON file, which grows by a row at a time."""

    def __init__(self, experiment: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{experiment}.json"
        self._document: Row = {
            "format": "onecycle.headline",
            "version": 1,
            "experiment": experiment,
            "made_with": [],
            "facts": {},
            "rows": [],
        }
        if self.path.is_file():
            self._document = decode(json.loads(self.path.read_text(encoding="utf-8")))

    @property
    def rows(self) -> list[Row]:
        """The rows so far."""
        return self._document["rows"]  # type: ignore[no-any-return]

    @property
    def facts(self) -> Row:
        """What holds for the whole experiment."""
        return self._document["facts"]  # type: ignore[no-any-return]

    def of(self, run: Run) -> Row | None:
        """The row of a run that was done before."""
        settings = json.loads(json.dumps(asdict(run)))
        return next((row for row in self.rows if settings.items() <= row.items()), None)

    def do(self, run: Run, **options: bool) -> Row:
        """The row of a run, which is done now if it was not, with `options` of `perform`."""
        row = self.of(run)
        if row is None:
            row = decode(json.loads(json.dumps(encode(perform(run, **options)))))
            self.rows.append(row)
            self.save()
        return row

    def restart(self, **facts: Any) -> None:
        """Forget all that is there, and who made it."""
        self._document.update(made_with=[], facts=facts, rows=[])

    def save(self) -> None:
        """Write it all, a row to a line."""
        maker = {**made_with(), "device": device_name(), "threads": str(torch.get_num_threads())}
        if maker not in self._document["made_with"]:
            self._document["made_with"].append(maker)
        head = json.dumps(encode({n: v for n, v in self._document.items() if n != "rows"}), allow_nan=False)
        rows = ",\n".join(json.dumps(encode(row), allow_nan=False) for row in self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, head.removesuffix("}") + f', "rows": [\n{rows}\n]}}\n')


def device_name() -> str:
    """The GPU that tasks train on, "CPU" where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def table(rows: Iterable[Row]) -> str:
    """Markdown: for each label the runs, their peak, and mean and spread of the final test accuracy.

    Where the rate was found, its cost is in parentheses, in shares of the run.
    """
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row)
    lines = ["| run | n | peak | test accuracy, % | steps | seconds |", "|---|---|---|---|---|---|"]
    for label, group in by_label.items():
        mean, deviation = spread([100 * row["accuracy"] for row in group])
        steps, seconds = (sum(row[name] for row in group) / len(group) for name in ("steps_done", "seconds"))
        diverged = sum(row["diverged"] for row in group)
        count = f"{len(group)} ({diverged} diverged)" if diverged else f"{len(group)}"
        accuracy = f"{mean:.2f} ± {deviation:.2f}"
        lines.append(f"| {label} | {count} | {_peaks(group)} | {accuracy} | {steps:.0f} | {seconds:.0f} |")
    return "\n".join(lines)


def _peaks(group: Sequence[Row]) -> str:
    found = [row["found"] for row in group if "found" in row]
    if not found:
        return f"{peak(group[0]):.3g}"
    rates = ", ".join(f"{each['max_lr']:.3g}" for each in found)
    cost = sum(each["cost"] for each in found) / sum(row["steps_done"] for row in group)
    return f"{rates} (found for {cost:.2f})"


def peak(row: Row) -> float:
    """The highest rate of a row's schedule."""
    values = row["schedule"]
    return float(values["lr"] if "lr" in values else values["max_lr"])


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1; nan of a single one)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
