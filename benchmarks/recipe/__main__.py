"""`python -m benchmarks.recipe COMMAND`, from the root of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recipe import noise
from benchmarks.regret.data import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "recipe"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "measure noise scales, and compare them with those from full gradients"
    command = commands.add_parser("noise", help=text, description=text)
    command.add_argument("--tasks", nargs="+", default=list(noise.TASKS), metavar="NAME", help="some only")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    options = parser.parse_args(arguments)
    try:
        print(noise.report(noise.record(options.tasks, options.results / "noise.json")))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
