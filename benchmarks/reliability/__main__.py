"""`python -m benchmarks.reliability COMMAND`, from the root of the repository."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PARTS = ["python", "find", "train", "tune", "engines"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    faults = commands.add_parser("faults", help="errors, signals, full disks, and what is lost to them")
    faults.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    fuzz = commands.add_parser(
        "fuzz", help="damaged files for every reader, guided by coverage (needs atheris)"
    )
    fuzz.add_argument("--targets", nargs="+", default=[], metavar="NAME", help="some readers only")
    fuzz.add_argument("--share", type=float, default=1.0, help="of the usual number of inputs")
    fuzz.add_argument("--seed", type=int, default=1)
    commands.add_parser("restore", help="optimizers, nets and loaders that are put back bit for bit")
    others = commands.add_parser("others", help="the same faults in the finders of other tools")
    others.add_argument("--tools", nargs="+", default=[], metavar="NAME", help="some tools only")
    soak = commands.add_parser("soak", help="long runs in one process, and large curves")
    soak.add_argument("--share", type=float, default=1.0, help="of the usual length")
    commands.add_parser("report", help="what was measured, as Markdown")
    one = commands.add_parser("fuzz-one")  # in a process of its own, which the fuzzer ends
    one.add_argument("name")
    one.add_argument("runs", type=int)
    one.add_argument("kept", type=Path)
    one.add_argument("seed", type=int)
    options = parser.parse_args(arguments)
    # A shell has what it runs in the background ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.command == "faults":
        from benchmarks.reliability import commands as of_commands
        from benchmarks.reliability import engines as of_engines
        from benchmarks.reliability import faults as in_python

        if "python" in options.parts:
            in_python.record()
        of_commands.record([part for part in options.parts if part in of_commands.COMMANDS])
        if "engines" in options.parts:
            of_engines.record()
    elif options.command == "fuzz":
        from benchmarks.reliability.fuzz import RUNS, record

        record(options.targets or RUNS, options.share, options.seed)
    elif options.command == "restore":
        from benchmarks.reliability import restore

        restore.record()
    elif options.command == "others":
        from benchmarks.reliability.others import TOOLS
        from benchmarks.reliability.others import record as record_others

        record_others(options.tools or list(TOOLS))
    elif options.command == "soak":
        from benchmarks.reliability.soak import record as record_soak

        record_soak(options.share)
    elif options.command == "report":
        from benchmarks.reliability.report import report

        try:
            print(report())
        except FileNotFoundError as missing:
            print(f"error: {missing}", file=sys.stderr)
            return 1
    elif options.command == "fuzz-one":
        from benchmarks.reliability.fuzz import guided

        guided(options.name, options.runs, options.kept, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
