"""`onecycle tune`."""

from __future__ import annotations

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
    one_length,
    out_option,
)
from onecycle.cli._words import RECIPE, begun, in_a_line, wrapped

if TYPE_CHECKING:
    from onecycle._runs import State


@click.command(
    epilog=examples(
        "tune digits --epochs 10 --out tuned",
        "tune mytask.py --epochs 30 --budget 4 --workers 4 --out tuned",
        "tune mytask.py --epochs 30 --out tuned --resume",
    )
)
@click.argument("task")
@of_task
@click.option("--budget", type=float, default=1.0, show_default=True,
              help="Full trainings that may be spent, from 0.05 to 20.")  # fmt: skip
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Where the trials run.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
              help="Processes of the local engine.")  # fmt: skip
@click.option("--gpus", type=click.FloatRange(0), default=0.0, show_default=True,
              help="Share of a GPU that a trial takes on Ray.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the search in --out.")
@out_option
@talking
@common
@click.pass_obj
def tune(
    session: Session,
    task: str,
    options: dict[str, Any],
    epochs: float | None,
    steps: int | None,
    budget: float,
    engine: str,
    workers: int,
    gpus: float,
    resume: bool,
    out: Path | None,
) -> None:
    """Find a whole recipe for TASK: rate, batch size, weight decay, momentum and length.

    Short runs settle one after the other, each with those before it. Finished runs are kept in --out, and
    --resume goes on with them.
    """
    from onecycle._progress import described, outcome, searching, short
    from onecycle._tune import tune as run
    from onecycle.engines import Engine, Local
    from onecycle.tasks import resolve

    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder that the search was kept in")
    one_length(epochs, steps)
    if engine != "local" and workers != 1:
        raise click.UsageError("--workers is for --engine local: Ray takes the cores that it has")
    if engine != "ray" and gpus:
        raise click.UsageError("--gpus is for --engine ray")
    job = resolve(task).having(options)
    where: Engine
    if engine == "ray":
        from onecycle.engines import Ray

        where = Ray(gpus=gpus)
    else:
        where = Local(workers)
    session.kept = NOTHING_KEPT if out is None else ""
    session.say(*begun({"task": task, "seed": session.seed, "budget": budget, **noted(options)}))
    settled = 0

    def note(state: State) -> None:
        nonlocal settled
        if out is not None:
            session.kept = f"; {state.done} finished runs are kept in {out}: go on with --resume"
        for each in state.decisions[settled:]:
            session.say(f"settled: {each.what} {short(each.value)}: {each.reason}")
        settled = len(state.decisions)
        session.say(
            f"{state.job.stage}: {described(state.job)}, seed {state.job.seed}: {outcome(state.result)}, "
            f"in {state.result.seconds:.2g} s; {state.spent:.2f} of {state.budget:g} trainings spent"
        )

    try:
        with searching(f"looking at {task}", not session.quiet):
            recipe = run(
                job,
                total_steps=steps,
                epochs=epochs if steps is not None or epochs is not None else job.epochs,
                budget=budget,
                engine=where,
                out=out,
                seed=session.seed,
                resume=resume,
                progress=not session.quiet,
                on_state=note,
            )
    finally:
        where.close()
    evidence = recipe.evidence
    document = {
        "task": task,
        **{name: getattr(recipe, name) for name in RECIPE},
        "cost": evidence["cost"],
        "trials": len(evidence["trials"]),
        "decisions": evidence["decisions"],
    }
    decisions = evidence["decisions"]
    lines = [wrapped(f"{each['what']} {short(each['value'])}: {each['reason']}") for each in decisions]
    lines += [f"cost: {evidence['cost']:.2f} trainings in {len(evidence['trials'])} runs"]
    if out is not None:
        session.say(kept(out))
        lines.append(next_command(task, out))
    session.result({"status": "done", **document}, in_a_line(recipe), *lines)
