"""What holds for every command: how it was called, what it says, and to whom."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
        self.quiet = False
        self.verbose = False
        self.seed: int = 0
        self.seed_given = False
        self.kept = ""  # said after an interrupt: what was kept and how to go on
        self.document: dict[str, Any] | None = None

    def print(self, document: dict[str, Any], *lines: str) -> None:
        """Print the lines, or keep the JSON document for the end, whichever was asked for."""
        self.document = document
        if not self.json:
            click.echo("\n".join(lines))

    def result(self, document: dict[str, Any], line: str, *more: str) -> None:
        """The same of what was found: the result in one line, which is all with --quiet, and more of it."""
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
            line = click.style(line, bold=True, fg="cyan")
        self.print(document, line, *([] if self.quiet else more))

    def say(self, *lines: str) -> None:
        """Print on standard error what is done, and why, where --verbose asks for it."""
        if self.verbose:
            print(*lines, sep="\n", file=sys.stderr, flush=True)  # click's echo would go past a display


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = context.ensure_object(Session)
    if parameter.name == "seed":
        session.seed_given = value is not None
        value = value or 0
    setattr(session, str(parameter.name), value)
    if session.quiet and session.verbose:
        raise click.UsageError("--quiet and --verbose say the opposite: give one", context)


def _flag(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=_note, help=text)


def common(command: F) -> F:
    """Options of every command; their values are the session's."""
    seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), show_default="0", expose_value=False,
                        callback=_note, help="Of every random choice.")  # fmt: skip
    command = _flag("--debug", "Show the traceback of an error.")(command)
    command = _flag("--json", "Print one JSON document, and nothing else, on standard output.")(command)
    return seed(command)


def talking(command: F) -> F:
    """Options of a command that takes a while: how much it says."""
    command = _flag("--verbose", "Say on standard error what is done, and why, a line each.")(command)
    return _flag("--quiet", "Show no progress, and of the result one line.")(command)


def examples(*lines: str) -> str:
    """Epilog of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  $ onecycle {line}" for line in lines)
