"""What find, tune and train have in common: a task, its options, its length and its folder."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecycle.cli._session import FOLDER, F, Session

if TYPE_CHECKING:
    from onecycle.tasks import Task

out_option = click.option("--out", type=FOLDER, help="Keep settings, curves, figures and results here.")
NOTHING_KEPT = "; nothing was kept: --out DIR keeps what is finished"


def _options(_context: click.Context, _parameter: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    """Arguments of a task's builder by name; what is no JSON is a string."""
    options: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{each!r} is not NAME=VALUE")
        if name in ("seed", "batch_size", "weight_decay"):
            raise click.BadParameter(f"{name} is not an option of the task: --seed or the recipe sets it")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def of_task(command: F) -> F:
    """Options of the task, and how long it trains."""
    for option in (
        click.option("--steps", type=click.IntRange(1), help="Length of training in updates instead."),
        click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Length of training."),
        click.option("--option", "options", multiple=True, metavar="NAME=VALUE", callback=_options,
                     help="An argument of the task, such as augment=false; repeatable."),
    ):  # fmt: skip
        command = option(command)
    return command


def noted(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they are written down: not at all where there are none."""
    return {"options": options} if options else {}


def prepare(
    session: Session,
    reference: str,
    epochs: float | None,
    steps: int | None,
    options: dict[str, Any],
    **settings: Any,
) -> tuple[Task, Any, int]:
    """The task, a fresh trial of it, and the length of training in updates."""
    from onecycle._progress import searching
    from onecycle.tasks import resolve

    one_length(epochs, steps)
    with searching(f"loading {reference}", not session.quiet):
        job = resolve(reference).having(options)
        trial = job.trial(session.seed, **settings)
    return job, trial, steps if steps is not None else _updates(job, trial, epochs)


def one_length(epochs: float | None, steps: int | None) -> None:
    """Refuse a length that is given twice."""
    if epochs is not None and steps is not None:
        raise click.UsageError("--epochs and --steps say the same thing: give one")


def _updates(job: Task, trial: Any, epochs: float | None) -> int:
    if epochs is not None and not math.isfinite(epochs):
        raise click.UsageError(f"--epochs must be a finite number, got {epochs}")
    per_epoch: int | None = getattr(trial, "steps_per_epoch", None)
    if per_epoch is None:
        raise ValueError(f"task {job.name} does not say how many steps an epoch has: give --steps")
    return max(round((job.epochs if epochs is None else epochs) * per_epoch), 1)


def kept(out: Path) -> str:
    """The files of a folder in a line."""
    names = [str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file()]
    shown = [name for name in names if not name.startswith("trials/")]
    if len(shown) < len(names):
        shown.append(f"{len(names) - len(shown)} files in trials/")
    return f"kept in {out}: {', '.join(shown)}"


def next_command(task: str, out: Path) -> str:
    """How to train with the recipe in a folder."""
    return (
        f"train with it: onecycle train {shlex.quote(task)} --recipe {shlex.quote(str(out / 'recipe.toml'))}"
    )
