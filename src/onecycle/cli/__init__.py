"""The command line: each command calls the public API and prints what came out."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType

import click

from onecycle import __version__
from onecycle._errors import Inconclusive
from onecycle.cli._curves import schedule, suggest
from onecycle.cli._demo import demo
from onecycle.cli._find import find
from onecycle.cli._session import FOLDER, Diverged, Session, common, examples
from onecycle.cli._train import train
from onecycle.cli._tune import tune


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


for command in (demo, find, tune, train, suggest, schedule):
    cli.add_command(command)


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
