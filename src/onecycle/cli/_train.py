"""`onecycle train`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from onecycle.cli._session import FILE, Diverged, Session, common, examples, talking
from onecycle.cli._task import (
    NOTHING_KEPT,
    kept,
    noted,
    of_task,
    out_option,
    prepare,
)
from onecycle.cli._words import begun, in_a_line, looked


@click.command(epilog=examples("train digits --recipe found/recipe.toml --out trained",
                             "train digits --recipe found/recipe.toml --out trained --resume"))  # fmt: skip
@click.argument("task")
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="What `find` wrote, or you.")
@of_task
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--checkpoint-every", type=click.IntRange(1), metavar="STEPS",
              help="Updates between checkpoints within an epoch, beside the one after each.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard to --out, too.")
@out_option
@talking
@common
@click.pass_obj
def train(
    session: Session,
    task: str,
    recipe_file: Path,
    options: dict[str, Any],
    checkpoint_every: int | None,
    tensorboard: bool,
    epochs: float | None,
    steps: int | None,
    resume: bool,
    out: Path | None,
) -> None:
    """Train TASK by a recipe with the 1cycle policy, with a checkpoint after each epoch."""
    from onecycle._files import write_file
    from onecycle._recipe import Recipe
    from onecycle._run_dir import RunDir
    from onecycle._train import History
    from onecycle._train import train as run

    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder that the run was kept in")
    if out is None and (checkpoint_every is not None or tensorboard):
        raise click.UsageError("--checkpoint-every and --tensorboard need --out, the folder to write to")
    session.kept = NOTHING_KEPT if out is None else "; there is no checkpoint yet"
    recipe = Recipe.load(recipe_file)
    if recipe.total_steps is not None and epochs is None and steps is None:
        steps = recipe.total_steps
    _, trial, length = prepare(
        session,
        task,
        epochs,
        steps,
        options,
        batch_size=recipe.batch_size,
        weight_decay=recipe.weight_decay,
    )
    policy = recipe.policy(length)
    history, start = History(), 0
    checkpoint = None if out is None else out / "checkpoint.safetensors"
    if resume and out is not None:
        start = _resume(session, trial, out, length, options)
        history = History.load(out / "metrics.csv").until(start)
    elif checkpoint is not None and checkpoint.exists():
        raise click.UsageError(
            f"--out {out} holds a run already: go on with it by --resume, or name another folder"
        )
    settings = {"task": task, "seed": session.seed, "total_steps": length, "recipe": str(recipe_file)}
    settings |= noted(options)
    session.say(*begun(settings), in_a_line(recipe))
    with RunDir(out, "train", settings, keep=resume) as folder:

        def keep(record: History) -> None:
            session.say(looked(record, length))
            if out is None:
                return
            step = int(record.rows[-1]["step"]) + 1
            record.save(out / "metrics.csv")
            if hasattr(trial, "write"):
                note = {"step": step, "total_steps": length, "seed": session.seed, **noted(options)}
                trial.write(checkpoint, note)
                write_file(out / "checkpoint.json", json.dumps(note) + "\n")
                session.kept = f"; kept up to step {step} of {length} in {out}: go on with --resume"

        history = run(
            trial,
            policy,
            start_step=start,
            evaluate_every=getattr(trial, "steps_per_epoch", None),
            after_evaluation=keep,
            checkpoint_every=checkpoint_every,
            checkpoint=keep,
            history=history,
            tracker=_tensorboard(out, start, length) if tensorboard and out is not None else None,
            progress=not session.quiet,
            title=f"training {task}",
        )
        results = {name: history.last(name) for name in ("loss", "val_loss", *history.metrics)}
        document = {"task": task, "total_steps": length, **results}
        if history.diverged and out is not None:
            history.save(out / "metrics.csv")
        folder.finish("diverged" if history.diverged else "done", **document)
    if history.diverged:
        raise Diverged(
            f"the loss was not finite at step {len(history.rows) - 1} of {length}: "
            f"lower max_lr in {recipe_file}"
        )
    if out is not None:
        session.say(kept(out))
    session.result(
        {"status": "done", **document},
        f"trained {task} for {length} updates: "
        + ", ".join(f"{name} {value:.4g}" for name, value in results.items() if value is not None),
    )


def _tensorboard(out: Path, start: int, length: int) -> Callable[[Mapping[str, float], int], None]:
    """A tracker that writes TensorBoard's event files; what an earlier run wrote from `start` on is void."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs tensorboard: pip install 'onecycle[tensorboard]'") from None
    writer = SummaryWriter(out / "tensorboard", purge_step=start or None)

    def track(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        if "val_loss" in values or step + 1 == length:
            writer.flush()

    return track


def _resume(session: Session, trial: Any, out: Path, length: int, options: dict[str, Any]) -> int:
    """Restore the trial from its checkpoint; the updates that it had completed."""
    for name in ("checkpoint.safetensors", "metrics.csv"):
        if not (out / name).is_file():
            raise FileNotFoundError(f"{out / name} does not exist: train without --resume first")
    note = trial.read(out / "checkpoint.safetensors")
    if session.seed_given and session.seed != note["seed"]:
        raise click.UsageError(f"--seed {session.seed} cannot go on with a run of seed {note['seed']}")
    session.seed = note["seed"]
    if note.get("options", {}) != options:
        was = " ".join(
            f"--option {name}={json.dumps(value)}" for name, value in note.get("options", {}).items()
        )
        raise click.UsageError(f"the run in {out} was begun with {was or 'no --option'}: go on with the same")
    if note["step"] > length:
        raise click.UsageError(f"the run in {out} is at step {note['step']}, past the {length} asked for")
    return int(note["step"])
