"""`python -m benchmarks.recipe COMMAND`, from the root of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recipe import noise
from benchmarks.recipe.runs import RESULTS, SEEDS, TASKS, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="train what is compared; a second start goes on")
    command.add_argument(
        "--tasks", nargs="+", default=[], metavar="NAME", help=f"default: {', '.join(TASKS)}"
    )
    command.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="SEED")
    command.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="some methods only")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    command = commands.add_parser("report", help="print the table and draw the figure")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    command = commands.add_parser("spread", help="measure what spreading trials costs and gains")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    command = commands.add_parser("noise", help="compare noise scales with those from full gradients")
    command.add_argument("--tasks", nargs="+", default=list(noise.TASKS), metavar="NAME", help="some only")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    command = commands.add_parser("scaling", help="find how the best rate moves with the batch size")
    command.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="some only")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    command = commands.add_parser("dev", help="tune on tasks of dev, over the best of the oracle")
    command.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="some only")
    command.add_argument("--budgets", nargs="+", type=float, default=[1.0, 2.0, 5.0], metavar="BUDGET")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            run(options.tasks, options.seeds, options.methods, options.results)
        elif options.command == "noise":
            print(noise.report(noise.record(options.tasks, options.results / "noise.json")))
        elif options.command == "scaling":
            from benchmarks.recipe import scaling

            print(scaling.report(scaling.record(options.tasks, options.results / "scaling.json")))
        elif options.command == "dev":
            from benchmarks.recipe import dev

            print(dev.report(dev.record(options.tasks, options.budgets, options.results / "dev.json")))
        elif options.command == "spread":
            from benchmarks.recipe import spread

            print(spread.run(options.results))
        else:
            from benchmarks.recipe.report import report

            print(report(options.results))
    except (FileNotFoundError, ValueError) as error:
        print(f"benchmarks.recipe: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
