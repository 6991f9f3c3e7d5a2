"""The command line: each command calls the public API and prints what came out."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onecycle import __version__
from onecycle._errors import Inconclusive

if TYPE_CHECKING:
    from onecycle._curve import Curve
    from onecycle._pilots import Pilot
    from onecycle._policies import Policy
    from onecycle._recipe import Recipe
    from onecycle._search import State
    from onecycle._suggest import Suggestion, Use
    from onecycle.tasks import Task

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class Diverged(click.ClickException):
    """Training came to no result: an honest no."""

    exit_code = 1


class Session:
    """How the present command was called, and what it has to say in the end."""

    def __init__(self, json_: bool = False) -> None:
        self.json = json_
        self.debug = False
        self.seed: int = 0
        self.seed_given = False
        self.kept = ""  # said after an interrupt: what was kept and how to go on
        self.document: dict[str, Any] | None = None

    def print(self, document: dict[str, Any], *lines: str) -> None:
        """Print the lines, or keep the JSON document for the end, whichever was asked for."""
        self.document = document
        if not self.json:
            click.echo("\n".join(lines))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 for an honest no, 2 for bad use, 130 where interrupted."""
    # An idle OpenMP thread that spins slows a small net many times over where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    session = Session("--json" in (sys.argv if arguments is None else arguments))
    with _first_signal_only(), _standard_output_kept(session.json):
        status = _run(session, arguments)
    if session.json and session.document is not None:
        from onecycle._files import encode

        try:
            print(json.dumps(encode(session.document), allow_nan=False), flush=True)
        except OSError as error:
            click.echo(f"onecycle: standard output cannot be written: {error}", err=True)
            status = 2
    sys.exit(status)


def _run(session: Session, arguments: list[str] | None) -> int:
    try:
        status: int | None = cli.main(arguments, "onecycle", standalone_mode=False, obj=session)
    except (KeyboardInterrupt, click.Abort):
        return _end(session, 130, "interrupted", f"interrupted{session.kept}")
    except Inconclusive as refusal:
        return _end(session, 1, "inconclusive", f"no suggestion: {refusal.reason}")
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "onecycle"
        return _end(session, 2, "error", f"{error.format_message().rstrip('.')}; see `{where} --help`")
    except Diverged as error:
        return _end(session, error.exit_code, "diverged", error.message)
    except click.ClickException as error:
        return _end(session, 2, "error", error.format_message())
    except SystemExit as error:
        return _end(session, 2, "error", f"the task called sys.exit({error.code!r}) while it ran")
    except Exception as error:  # noqa: BLE001 - the user gets one line, and the rest with --debug
        if session.debug:
            traceback.print_exc()
        return _end(session, 2, "error", _one_line(error))
    return status or 0


def _end(session: Session, status: int, name: str, text: str) -> int:
    session.document = {"status": name, "reason": text}
    click.echo(f"onecycle: {text}", err=True)
    return status


@contextmanager
def _first_signal_only() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the command, and no other disturb how it is ended."""
    seen = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if not seen:
            seen = True
            signal.default_int_handler(number, frame)

    # A job that ignores Ctrl-C, as one in the background of a script does, goes on ignoring it.
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, interrupt)) for number in heeded]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def _standard_output_kept(for_json: bool) -> Iterator[None]:
    """Send what a task prints, and its workers and libraries do, to standard error instead."""
    if not for_json:
        yield
        return
    sys.stdout.flush()
    ours = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        return text
    return f"{type(error).__name__}: {text}; --debug shows where"


def common(command: F) -> F:
    """Options of every command; their values are the session's."""

    def note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        session = context.ensure_object(Session)
        if parameter.name == "seed":
            session.seed_given = value is not None
            value = value or 0
        setattr(session, str(parameter.name), value)

    for flag, text in (
        ("--debug", "Show the traceback of an error."),
        ("--json", "Print one JSON document, and nothing else, on standard output."),
    ):
        option = click.option(flag, is_flag=True, is_eager=True, expose_value=False, callback=note, help=text)
        command = option(command)
    seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), show_default="0", expose_value=False,
                        callback=note, help="Of every random choice.")  # fmt: skip
    return seed(command)


def examples(*lines: str) -> str:
    """Epilog of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  $ onecycle {line}" for line in lines)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "demo", "find digits", "suggest curve.csv", "schedule one-cycle --max-lr 0.8 --total-steps 9310"
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Find the learning rate of a deep network by measurement, and train it with the 1cycle policy.

    Exit status: 0 done, 1 an honest no (the evidence does not tell), 2 bad use, 130 interrupted with
    all finished work kept.
    """


quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")
out_option = click.option("--out", type=FOLDER, help="Keep settings, curves, figures and results here.")
epochs_option = click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Length of training.")
steps_option = click.option("--steps", type=click.IntRange(1), help="Length of training in updates instead.")


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


task_option = click.option("--option", "options", multiple=True, metavar="NAME=VALUE", callback=_options,
                           help="An argument of the task, such as augment=false; repeatable.")  # fmt: skip

# demo ------------------------------------------------------------------------------------------------


@cli.command(epilog=examples("demo", "demo --out demo --epochs 10", "demo --json"))
@click.option("--out", type=FOLDER, default=Path("onecycle-demo"), show_default=True,
              help="Where figures and files go.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Length of both runs.")
@quiet_option
@common
@click.pass_obj
def demo(session: Session, out: Path, epochs: int, quiet: bool) -> None:
    """See it work: range test, suggestion, then 1cycle training on real handwritten digits.

    Beside it, the same net is trained for as many steps at the optimizer's default rate.
    """
    from onecycle._demo import run

    run(session.print, out, epochs, session.seed, not quiet)


# find ------------------------------------------------------------------------------------------------


@cli.command(
    epilog=examples(
        "find digits", "find mytask.py --epochs 20 --out found", "find package.module:build --json"
    )
)
@click.argument("task")
@task_option
@epochs_option
@steps_option
@click.option("--budget", type=float, default=0.2, show_default=True,
              help="Share of the training's length that may be spent.")  # fmt: skip
@click.option("--start", type=float, default=1e-7, show_default=True, help="First rate of the sweep.")
@click.option("--end", type=float, default=10.0, show_default=True, help="Last rate of the sweep.")
@click.option("--objective", type=click.Choice(["train", "val"]),
              help="Loss to judge pilots by; default: val where the task has validation data.")  # fmt: skip
@out_option
@quiet_option
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
    quiet: bool,
) -> None:
    """Find the maximum learning rate for TASK: a range test, then short pilot runs.

    TASK is a built-in name (see `onecycle tasks`), path.py, path.py:function, or
    package.module:function. A file named here is run as Python code.
    """
    from onecycle._find import search
    from onecycle._run_dir import RunDir

    job, trial, length = _prepare(task, session.seed, epochs, steps, options)
    settings = {
        "task": task,
        "seed": session.seed,
        "total_steps": length,
        "budget": budget,
        **_noted(options),
    }
    with RunDir(out, "find", settings) as folder:

        def keep(curve: Curve) -> None:
            folder.curve("lr", curve)
            session.kept = f"; the range test is kept in {out}" if out is not None else ""

        def keep_pilots(pilots: Sequence[Pilot]) -> None:
            folder.finish("running", pilots=[dataclasses.asdict(pilot) for pilot in pilots])

        found = search(
            trial,
            total_steps=length,
            objective=objective,
            budget=budget,
            seed=session.seed,
            progress=not quiet,
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
            **_in_json(found.suggestion),
            "pilots": pilots,
            "cost": found.cost,
        }
        folder.finish("done", **document)
    lines = [*_in_words(found.suggestion), f"cost: {found.cost} updates, for a training of {length}"]
    if out is not None:
        recipe = shlex.quote(str(out / "recipe.toml"))
        lines += [f"train with it: onecycle train {shlex.quote(task)} --recipe {recipe}"]
    session.print({"status": "done", **document}, *lines)


def _in_json(found: Suggestion) -> dict[str, Any]:
    return {
        "max_lr": found.value,
        **({} if found.base_lr is None else {"base_lr": found.base_lr}),
        "use": found.use,
        "low": found.low,
        "high": found.high,
        "rule": found.rule,
        "reason": found.reason,
    }


def _in_words(found: Suggestion) -> list[str]:
    name = "lr" if found.use == "constant" else "max_lr"
    base = [] if found.base_lr is None else [f"base_lr {found.base_lr:.3g}"]
    return [
        *base,
        f"{name} {found.value:.3g}  (from {found.low:.2g} to {found.high:.2g}, by rule {found.rule})",
        f"why: {found.reason}",
    ]


def _noted(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they are written down: not at all where there are none."""
    return {"options": options} if options else {}


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


def _prepare(
    reference: str,
    seed: int,
    epochs: float | None,
    steps: int | None,
    options: dict[str, Any],
    **settings: Any,
) -> Any:
    """The task, a fresh trial of it, and the length of training in updates."""
    from onecycle.tasks import resolve

    _one_length(epochs, steps)
    job = resolve(reference).having(options)
    trial = job.trial(seed, **settings)
    return job, trial, steps if steps is not None else _updates(job, trial, epochs)


def _one_length(epochs: float | None, steps: int | None) -> None:
    if epochs is not None and steps is not None:
        raise click.UsageError("--epochs and --steps say the same thing: give one")


def _updates(job: Task, trial: Any, epochs: float | None) -> int:
    if epochs is not None and not math.isfinite(epochs):
        raise click.UsageError(f"--epochs must be a finite number, got {epochs}")
    per_epoch: int | None = getattr(trial, "steps_per_epoch", None)
    if per_epoch is None:
        raise ValueError(f"task {job.name} does not say how many steps an epoch has: give --steps")
    return max(round((job.epochs if epochs is None else epochs) * per_epoch), 1)


# tune ------------------------------------------------------------------------------------------------


@cli.command(
    epilog=examples(
        "tune digits --epochs 10 --out tuned",
        "tune mytask.py --epochs 30 --budget 4 --workers 4 --out tuned",
        "tune mytask.py --epochs 30 --out tuned --resume",
    )
)
@click.argument("task")
@task_option
@epochs_option
@steps_option
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
@quiet_option
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
    quiet: bool,
) -> None:
    """Find a whole recipe for TASK: rate, batch size, weight decay, momentum and length.

    Short runs settle one after the other, each with those before it. Finished runs are kept in --out, and
    --resume goes on with them.
    """
    from onecycle._tune import tune as run
    from onecycle.engines import Engine, Local
    from onecycle.tasks import resolve

    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder that the search was kept in")
    _one_length(epochs, steps)
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

    def note(state: State) -> None:
        if out is not None:
            session.kept = f"; {state.done} finished runs are kept in {out}: go on with --resume"

    try:
        recipe = run(
            job,
            total_steps=steps,
            epochs=epochs if steps is not None or epochs is not None else job.epochs,
            budget=budget,
            engine=where,
            out=out,
            seed=session.seed,
            resume=resume,
            progress=not quiet,
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
    lines = [f"{each['what']} {_value(each['value'])}: {each['reason']}" for each in evidence["decisions"]]
    lines += [f"cost: {evidence['cost']:.2f} trainings in {len(evidence['trials'])} runs"]
    if out is not None:
        file = shlex.quote(str(out / "recipe.toml"))
        lines += [f"train with it: onecycle train {shlex.quote(task)} --recipe {file}"]
    session.print({"status": "done", **document}, *lines)


RECIPE = ("max_lr", "interval", "batch_size", "weight_decay", "momentum", "total_steps")


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# train -----------------------------------------------------------------------------------------------


@cli.command(epilog=examples("train digits --recipe found/recipe.toml --out trained",
                             "train digits --recipe found/recipe.toml --out trained --resume"))  # fmt: skip
@click.argument("task")
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="What `find` wrote, or you.")
@task_option
@epochs_option
@steps_option
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--checkpoint-every", type=click.IntRange(1), metavar="STEPS",
              help="Updates between checkpoints within an epoch, beside the one after each.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard to --out, too.")
@out_option
@quiet_option
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
    quiet: bool,
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
    recipe = Recipe.load(recipe_file)
    if recipe.total_steps is not None and epochs is None and steps is None:
        steps = recipe.total_steps
    _, trial, length = _prepare(
        task,
        session.seed,
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
    settings |= _noted(options)
    with RunDir(out, "train", settings, keep=resume) as folder:

        def keep(record: History) -> None:
            if out is None:
                return
            step = int(record.rows[-1]["step"]) + 1
            record.save(out / "metrics.csv")
            if hasattr(trial, "write"):
                note = {"step": step, "total_steps": length, "seed": session.seed, **_noted(options)}
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
            progress=not quiet,
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
    session.print(
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


# suggest ---------------------------------------------------------------------------------------------


@cli.command(
    epilog=examples(
        "suggest curve.csv",
        "suggest metrics.csv --plot curve.png",
        "suggest log.csv --lr eta --loss nll --rule valley",
        "suggest curve.json --use cyclical",
    )
)
@click.argument("file", type=FILE)
@click.option("--rule", help="A rule by name, such as valley; default: this library's own.")
@click.option("--use", type=click.Choice(["one_cycle", "cyclical", "constant"]), default="one_cycle",
              show_default=True, help="What the rate is for; only the default rule tells.")  # fmt: skip
@click.option("--lr", "value", metavar="COLUMN", help="Column of the rate, where it is not found by itself.")
@click.option("--loss", metavar="COLUMN", help="Column of the loss, where it is not found by itself.")
@click.option("--plot", type=FILE, help="Draw the curve with the suggestion into this file.")
@common
@click.pass_obj
def suggest(
    session: Session,
    file: Path,
    rule: str | None,
    use: Use,
    value: str | None,
    loss: str | None,
    plot: Path | None,
) -> None:
    """Read a curve from any tool: this library's JSON, a CSV log, or Hugging Face's trainer_state.json."""
    from onecycle._curve import Curve

    curve = Curve.from_csv(file, value=value, loss=loss) if value or loss else Curve.read(file)
    found: Suggestion | Inconclusive
    try:
        found = curve.suggest(rule, use=use)
    except Inconclusive as refusal:
        found = refusal
    if plot is not None:
        from onecycle.plot import plot_curve

        plot_curve(curve, plot, suggestion=found)
    if isinstance(found, Inconclusive):
        raise found
    document = {"status": "done", **_in_json(found), "points": len(curve)}
    session.print(document, *_in_words(found))


# schedule --------------------------------------------------------------------------------------------


@cli.group()
def schedule() -> None:
    """Show a policy as numbers or as a figure."""


def momentum_option(default: tuple[float, float] | None) -> Callable[[F], F]:
    """Range of the momentum, which both policies take."""
    return click.option("--momentum", type=(float, float), default=default, metavar="HIGH LOW",
                        show_default=default is not None, help="Range of the momentum.")  # fmt: skip


plot_option = click.option("--plot", type=FILE, help="Draw the policy into this file.")
csv_option = click.option(
    "--csv", "csv_file", type=FILE, help="Write the values of every step into this file."
)


@schedule.command(
    "one-cycle", epilog=examples("schedule one-cycle --max-lr 0.8 --total-steps 9310 --plot policy.png")
)
@click.option("--max-lr", type=float, required=True, help="Rate at the peak.")
@click.option("--total-steps", type=int, required=True, help="Updates in all.")
@click.option("--min-lr", type=float, help="Rate at both ends of the cycle; default: a tenth of the peak.")
@click.option("--final-lr", type=float, help="Rate of the last update.")
@click.option("--tail", type=float, default=0.1, show_default=True, help="Share of the last stretch.")
@click.option("--peak", type=float, default=0.5, show_default=True, help="Place of the peak in the cycle.")
@momentum_option((0.95, 0.85))
@click.option("--shape", type=click.Choice(["linear", "cosine"]), default="linear", show_default=True)
@click.option("--form", type=click.Choice(["paper", "logs", "to_zero"]), default="paper", show_default=True)
@plot_option
@csv_option
@common
@click.pass_obj
def one_cycle_command(
    session: Session, /, plot: Path | None, csv_file: Path | None, **arguments: Any
) -> None:
    """The 1cycle policy (Smith 2018, arXiv 1803.09820)."""
    from onecycle._policies import one_cycle

    policy = one_cycle(arguments.pop("max_lr"), arguments.pop("total_steps"), **arguments)
    _show(session, policy, policy.total_steps or 1, plot, csv_file)


@schedule.command("cyclical", epilog=examples("schedule cyclical --base-lr 0.1 --max-lr 0.8 --step-size 2000 "
                                              "--total-steps 8000"))  # fmt: skip
@click.option("--base-lr", type=float, required=True, help="Rate at the ends of each cycle.")
@click.option("--max-lr", type=float, required=True, help="Rate at the top of the first cycle.")
@click.option("--step-size", type=int, required=True, help="Updates from base to top.")
@click.option("--step-size-down", type=int, help="Updates from top to base; default: --step-size.")
@click.option("--mode", type=click.Choice(["triangular", "triangular2", "exp_range"]), default="triangular",
              show_default=True)  # fmt: skip
@click.option("--gamma", type=float, default=1.0, show_default=True, help="Factor a step of exp_range.")
@momentum_option(None)
@click.option("--total-steps", type=int, help="Updates in all; default: without end.")
@plot_option
@csv_option
@common
@click.pass_obj
def cyclical_command(session: Session, /, plot: Path | None, csv_file: Path | None, **arguments: Any) -> None:
    """Cyclical rates (Smith 2015, arXiv 1506.01186)."""
    from onecycle._policies import cyclical

    base, top, up = (arguments.pop(name) for name in ("base_lr", "max_lr", "step_size"))
    policy = cyclical(base, top, up, **arguments)
    two_cycles = 2 * (up + (arguments["step_size_down"] or up))
    _show(session, policy, policy.total_steps or two_cycles, plot, csv_file)


LISTED = 1_000_000  # steps


def _show(session: Session, policy: Policy, length: int, plot: Path | None, csv_file: Path | None) -> None:
    import numpy as np

    from onecycle._files import write_file

    if length > LISTED and csv_file is not None:
        raise click.UsageError(f"--csv has a line a step, and {length} are too many: {LISTED} at most")
    # No more than a sample, and the ends of pieces, of a schedule of any length.
    sample = np.linspace(0, length - 1, min(length, LISTED)).round()
    steps = np.unique([*sample, *(s for s in getattr(policy.lr, "steps", ()) if s < length)]).astype(int)
    values = policy(steps)
    if plot is not None:
        policy.plot(plot)
    if csv_file is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", *values])
        writer.writerows(zip(steps.tolist(), *(v.tolist() for v in values.values()), strict=True))
        write_file(csv_file, text.getvalue())
    marks = sorted(
        {0, int(np.argmax(values["lr"])), *(round(q * (len(steps) - 1)) for q in (0.25, 0.5, 0.75, 1))}
    )
    lines = ["".join(name.rjust(12) for name in ("step", *values))]
    lines += [
        "".join([str(steps[i]).rjust(12), *(f"{v[i]:.5g}".rjust(12) for v in values.values())]) for i in marks
    ]
    session.print({"status": "done", "policy": json.loads(policy.to_json())}, *lines)


# report ----------------------------------------------------------------------------------------------


@cli.command(epilog=examples("report found", "report tuned --open"))
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--open", "open_", is_flag=True, help="Show it in the browser.")
@common
@click.pass_obj
def report(session: Session, folder: Path, open_: bool) -> None:
    """Write up DIR, which demo, find, tune or train filled by --out, as one HTML file."""
    from onecycle.report import write

    path = write(folder)
    if open_:
        click.launch(str(path))
    session.print({"status": "done", "report": str(path), "bytes": path.stat().st_size}, f"report: {path}")


# the rest --------------------------------------------------------------------------------------------


@cli.command(epilog=examples("tasks"))
@common
@click.pass_obj
def tasks(session: Session) -> None:
    """List the built-in tasks."""
    from onecycle.tasks import BUILT_IN

    session.print(
        {"status": "done", "tasks": BUILT_IN}, *(f"{name:12}{text}" for name, text in BUILT_IN.items())
    )


@cli.command(epilog=examples("completion bash >> ~/.bashrc"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
@click.pass_obj
def completion(session: Session, shell: str) -> None:
    """Print the script that completes commands and options in SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "onecycle", "_ONECYCLE_COMPLETE").source()
    session.print({"status": "done", "script": script}, script)


if __name__ == "__main__":
    main()
