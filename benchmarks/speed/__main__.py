"""`python -m benchmarks.speed COMMAND`, from the root of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.speed import files
from benchmarks.speed.report import PARTS, report

# Rounds of each part that are taken where no other number is asked for.
REPEATS = {"ranges": 9, "memory": 2, "schedules": 9, "reading": 9, "start": 9, "scale": 3, "engines": 3}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in {
        "report": "measure, and print tables of the results",
        "tables": "print tables of results that there are",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
        command.add_argument(
            "--results", type=Path, default=files.RESULTS, help="the folder that holds results"
        )
        if name == "report":
            command.add_argument(
                "--repeats", type=int, help="rounds, in each of which all contenders run once"
            )
            command.add_argument(
                "--scale", type=float, default=1.0, help="below 1: less of everything, to try it"
            )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {min(unknown)!r}; the parts are {', '.join(PARTS)}")
    parts = options.parts or PARTS
    try:
        for part in parts if options.command == "report" else ():
            print(f"measuring {part}", file=sys.stderr, flush=True)
            measure = import_module(f"benchmarks.speed.{part}").measure
            files.write(part, measure(options.repeats or REPEATS[part], options.scale), options.results)
        print(report(parts, options.results))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
