"""Training a trial with a policy: the plain loop, its record, and its place in a file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from onecycle._arguments import as_whole, check_functions
from onecycle._files import read_text, write_file
from onecycle._policy import HYPERS, Policy, check_policy
from onecycle._progress import live
from onecycle._range_test import BLOCK
from onecycle._trial import Trial, read_losses


@dataclass
class History:
    """What a training run recorded, one row a step.

    Each row has `step`, the hyper-parameters used, `loss` (of the batch, before the update) and, where
    the validation set was looked at after that step, `val_loss` and the trial's metrics.
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether the last loss is not finite."""
        return bool(self.rows) and not math.isfinite(self.rows[-1]["loss"])

    @property
    def metrics(self) -> list[str]:
        """Columns that the trial's evaluations added."""
        known = {"step", "loss", "val_loss", *HYPERS}
        return list(dict.fromkeys(name for row in self.rows for name in row if name not in known))

    def last(self, name: str) -> float | None:
        """The latest value of a column, None where it has none."""
        return next((row[name] for row in reversed(self.rows) if name in row), None)

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of the rows that have `name`."""
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]

    def until(self, step: int) -> History:
        """The rows of the first `step` updates."""
        return History([row for row in self.rows if row["step"] < step])

    def save(self, path: str | Path) -> None:
        """Write the rows as CSV, atomically; blank where a row has no value."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_file(path, text.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Rows written by `save`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is something else, or damaged.
        """
        text = io.StringIO(read_text(path), newline="")
        try:
            rows = [
                {name: int(cell) if name == "step" else float(cell) for name, cell in row.items() if cell}
                for row in csv.DictReader(text)
            ]
        except (csv.Error, TypeError, ValueError) as error:  # a row too long has a list of cells
            raise ValueError(f"{path} is no record of a training run: {error!s:.200}") from None
        if any(not {"step", "loss"} <= row.keys() for row in rows):
            raise ValueError(f"{path} is no record of a training run: a row lacks step or loss")
        return cls(rows)


def train(
    trial: Trial,
    policy: Policy | Callable[[int], Mapping[str, float]],
    *,
    total_steps: int | None = None,
    start_step: int = 0,
    evaluate_every: int | None = None,
    after_evaluation: Callable[[History], None] | None = None,
    checkpoint_every: int | None = None,
    checkpoint: Callable[[History], None] | None = None,
    history: History | None = None,
    tracker: Callable[[Mapping[str, float], int], object] | None = None,
    progress: bool = True,
    title: str = "training",
) -> History:
    """Train `trial` with `policy` from `start_step` to the policy's end.

    It stops early where the loss is not finite, with `history.diverged` true.

    Args:
        trial: what to train; it stays trained.
        policy: values of the hyper-parameters by step.
        total_steps: where to end; None: at `policy.total_steps`.
        start_step: completed updates so far.
        evaluate_every: updates between two looks at the validation set; None: at the end alone; 0: never.
        after_evaluation: called with the history so far after each of them, to save or to watch.
        checkpoint_every: updates between two calls of `checkpoint`; None: none.
        checkpoint: called with the history so far, all of it read, to save the trial in the midst of an
            epoch; not where `after_evaluation` is called for the same step.
        history: the record so far, which is appended to.
        tracker: `tracker(values, step)` is called for each step, and again after an evaluation with what
            that measured; `mlflow.log_metrics` and the `log` of a wandb or trackio run are such functions.
        progress: show the run while it goes on, where standard error is a terminal.
        title: what the display calls it.

    Returns:
        The history, one row a step.

    Raises:
        TypeError: an argument is of another type, or `policy` gives no dict for a step.
        ValueError: an argument is out of its range, or neither `total_steps` nor the policy says where to
            end.
    """
    if not isinstance(trial, Trial):
        raise TypeError(f"trial must be a Trial, such as onecycle.torch.Trial, got {type(trial).__name__}")
    check_functions(after_evaluation=after_evaluation, checkpoint=checkpoint, tracker=tracker)
    if not isinstance(history, History | None):
        raise TypeError(f"history must be a History or None, got {brief(history)}")
    check_policy(policy, as_whole("start_step", start_step, least=0))
    end = total_steps if total_steps is not None else getattr(policy, "total_steps", None)
    if end is None:
        raise ValueError("total_steps must be given for a policy without end")
    end = as_whole("total_steps", end)
    every = end if evaluate_every is None else as_whole("evaluate_every", evaluate_every, least=0)
    if checkpoint_every is not None:
        checkpoint_every = as_whole("checkpoint_every", checkpoint_every)
    record = History() if history is None else history
    losses = [row["loss"] for row in record.rows]
    waiting: list[tuple[dict[str, float], Any]] = []
    tell = tracker or (lambda *_: None)
    best = min((row["val_loss"] for row in record.rows if "val_loss" in row), default=math.inf)

    def read() -> bool:
        for (row, _), loss in zip(waiting, read_losses(trial, [loss for _, loss in waiting]), strict=True):
            row["loss"] = loss
            record.rows.append(row)
            losses.append(row["loss"])
            tell({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
            if record.diverged:
                break
        waiting.clear()
        if losses:
            words = f"best validation loss {best:.4g}" if best < math.inf else ""
            show(len(losses), record.rows[-1].get("lr", math.nan), losses, words)
        return record.diverged

    with live(title, end, progress, start_step) as show:
        for step in range(start_step, end):
            values = policy(step)
            trial.set(**values)
            waiting.append(({"step": step, **values}, trial.step()))
            done = step + 1
            look = every > 0 and (done == end or done % every == 0)
            save = checkpoint is not None and checkpoint_every is not None and done % checkpoint_every == 0
            if (look or save or done == end or len(waiting) == BLOCK) and read():
                break
            if look:
                val_loss = trial.evaluate()
                if val_loss is not None:
                    best = min(best, val_loss)
                    measured = {"val_loss": val_loss, **getattr(trial, "metrics", {})}
                    record.rows[-1].update(measured)
                    tell(measured, step)
                if after_evaluation is not None:
                    after_evaluation(record)
            elif save and checkpoint is not None:
                checkpoint(record)
    return record
