"""`onecycle find`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecycle.cli._session import Session, common, examples, talking
from onecycle.cli._task import (
    NOTHING_KEPT,
    kept,
    next_command,
    noted,
    of_task,
    out_option,
    prepare,
)
from onecycle.cli._words import begun, in_json, in_words, swept, tried

if TYPE_CHECKING:
    from onecycle._curve import Curve
    from onecycle._pilots import Pilot
    from onecycle._recipe import Recipe
    from onecycle._suggestion import Suggestion
    from onecycle.tasks import Task


@click.command(
    epilog=examples(
        "find digits", "find mytask.py --epochs 20 --out found", "find package.module:build --json"
    )
)
@click.argument("task")
@of_task
@click.option("--budget", type=float, default=0.2, show_default=True,
              help="Share of the training's length that may be spent.")  # fmt: skip
@click.option("--start", type=float, default=1e-7, show_default=True, help="First rate of the sweep.")
@click.option("--end", type=float, default=10.0, show_default=True, help="Last rate of the sweep.")
@click.option("--objective", type=click.Choice(["train", "val"]),
              help="Loss to judge pilots by; default: val where the task has validation data.")  # fmt: skip
@out_option
@talking
@common
@click.pass_obj
def find(
    session: Session,
    task: str,
    options: dict[str, Any],
    epochs: float | None,
    steps: int | None,
    budget: float,
    start: float,
    end: float,
    objective: Any,
    out: Path | None,
) -> None:
    """Find the maximum learning rate for TASK: a range test, then short pilot runs.

    TASK is a built-in name (see `onecycle tasks`), path.py, path.py:function, or
    package.module:function. A file named here is run as Python code.
    """
    from onecycle._find import search
    from onecycle._progress import searching
    from onecycle._run_dir import RunDir

    session.kept = NOTHING_KEPT if out is None else ""
    job, trial, length = prepare(session, task, epochs, steps, options)
    settings = {
        "task": task,
        "seed": session.seed,
        "total_steps": length,
        "budget": budget,
        **noted(options),
    }
    session.say(*begun(settings))
    spent = 0
    with (
        RunDir(out, "find", settings) as folder,
        searching(f"finding a rate for {task}", not session.quiet) as board,
    ):

        def keep(curve: Curve) -> None:
            nonlocal spent
            spent = len(curve)
            folder.curve("lr", curve)
            if out is not None:
                session.kept = f"; the range test is kept in {out}, and `onecycle report {out}` shows it"
            session.say(swept(curve))
            board.update(
                spent=spent, settled=[("range test", f"{spent} updates", curve.settings["endings"][0])]
            )

        def keep_pilots(pilots: Sequence[Pilot]) -> None:
            folder.finish("running", pilots=[dataclasses.asdict(pilot) for pilot in pilots])
            if out is not None:
                session.kept = (
                    f"; the range test and {len(pilots)} of the pilots are kept in {out}, and "
                    f"`onecycle report {out}` shows them"
                )
            session.say(tried(pilots[-1]))
            best = min(pilots, key=lambda pilot: pilot.loss)
            board.update(
                spent=spent + sum(pilot.steps for pilot in pilots),
                best=f"up to {best.max_lr:.3g}, loss {best.loss:.4g}" if math.isfinite(best.loss) else "",
            )

        if math.isfinite(budget * length):
            board.update(budget=int(budget * length))
        found = search(
            trial,
            total_steps=length,
            objective=objective,
            budget=budget,
            seed=session.seed,
            progress=not session.quiet,
            start=start,
            end=end,
            on_curve=keep,
            on_pilot=keep_pilots,
        )
        pilots = [dataclasses.asdict(pilot) for pilot in found.pilots]
        folder.recipe(_recipe(job, found.suggestion, length, session.seed, cost=found.cost, pilots=pilots))
        document = {
            "task": task,
            "total_steps": length,
            **in_json(found.suggestion),
            "pilots": pilots,
            "cost": found.cost,
        }
        folder.finish("done", **document)
    lines = [*in_words(found.suggestion), f"cost: {found.cost} updates, for a training of {length}"]
    if out is not None:
        session.say(kept(out))
        lines.append(next_command(task, out))
    session.result({"status": "done", **document}, *lines)


def _recipe(job: Task, suggestion: Suggestion, length: int, seed: int, **evidence: Any) -> Recipe:
    from onecycle._range_test import versions
    from onecycle._recipe import Recipe

    return Recipe(
        max_lr=suggestion.max_lr,
        interval=(suggestion.low, suggestion.high),
        weight_decay=job.default("weight_decay"),
        batch_size=job.default("batch_size"),
        total_steps=length,
        evidence={
            "task": job.name,
            "rule": suggestion.rule,
            "reason": suggestion.reason,
            "seed": seed,
            "versions": versions(),
            **evidence,
        },
    )
