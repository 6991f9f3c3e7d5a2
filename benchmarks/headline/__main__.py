"""The command: see `python -m benchmarks.headline --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline import accounting, experiments
from benchmarks.headline.runs import BUDGET, HELD_OUT, RESULTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 where the data are missing, or 130 where interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.headline",
        description="CIFAR-10: the article's and Smith's results reproduced, and our own recipe. "
        "Finished runs are kept, and the same command goes on where it was. The experiments want a GPU.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, about) in experiments.EXPERIMENTS.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
        command.add_argument("--shorten", type=float, default=1.0, help="divide every length by this")
        if name in experiments.SMALL:
            command.add_argument("--small", action="store_true", help="the form for a CPU")
        _smaller(command)
    command = commands.add_parser("range", help="range tests of ResNet-56, read beside Smith's")
    command.add_argument("--steps", type=int, default=5000, help="of the linear one (default: 5000)")
    command.add_argument("--batch-size", type=int, default=1000)
    command.add_argument("--evaluations", type=int, default=50, help="looks at the test set (default: 50)")
    command.add_argument("--net", default="resnet56", help="a net of onecycle.tasks.cifar10")
    _smaller(command)
    command = commands.add_parser("order", help="the comparison for a CPU: 1cycle against its rivals")
    command.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    command = commands.add_parser("speed", help="images per second against a plain PyTorch loop")
    command.add_argument("--net", default="resnet20", help="a net of onecycle.tasks.cifar10")
    command.add_argument("--batch-size", type=int, default=128)
    command.add_argument("--steps", type=int, default=20, help="timed at once (default: 20)")
    command.add_argument(
        "--workers", type=int, nargs="+", default=[0], help="processes of the plain loop's loader, to try"
    )
    command.add_argument("--compile", nargs="*", default=[], metavar="MODE", help="modes to time, too")
    command = commands.add_parser("peak", help="the quick net's published peak, found")
    command.add_argument("--budget", type=float, default=BUDGET, help=f"of its run (default: {BUDGET})")
    command.add_argument("--held-out", type=int, default=HELD_OUT, help="images that pilots are judged by")
    command.add_argument("--shorten", type=float, default=1.0, help="divide the length by this")
    _smaller(command)
    command = commands.add_parser("gpu", help="all that is owed, the most important first, in the time given")
    command.add_argument("--minutes", type=float, default=12.0, help="for all of it (default: 12)")
    command.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    command.add_argument("--shorten", type=float, default=1.0, help="divide every length by this")
    _smaller(command)
    commands.add_parser("accounting", help="what the article's printed accuracies are")
    commands.add_parser("reading", help="what is read off Smith's range tests, and ours where done")
    commands.add_parser("figures", help="draw what is there")
    for command in set(commands.choices.values()):
        command.add_argument("--threads", type=int, help="of torch (default: as torch has it)")
        command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
        command.add_argument("--quiet", action="store_true", help="show no progress")
    try:
        print(_do(parser.parse_args(arguments)))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was done is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _smaller(command: argparse.ArgumentParser) -> None:
    command.add_argument("--images", type=int, help="train on the first so many")
    command.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the task, as compile=default"
    )


def _do(asked: argparse.Namespace) -> str:
    import torch

    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    if asked.command in experiments.EXPERIMENTS:
        return experiments.record(
            asked.command,
            asked.seeds,
            small=getattr(asked, "small", False),
            shorten=asked.shorten,
            options=_options(asked),
            results=asked.results,
            progress=not asked.quiet,
        )
    if asked.command == "range":
        return experiments.range_tests(
            steps=asked.steps,
            batch_size=asked.batch_size,
            evaluations=asked.evaluations,
            net=asked.net,
            options=_options(asked),
            results=asked.results,
            progress=not asked.quiet,
        )
    if asked.command == "order":
        from benchmarks.headline.order import order

        return order(asked.seeds, folder=asked.results, progress=not asked.quiet)
    if asked.command == "speed":
        from benchmarks.headline.speed import speed

        return speed(
            asked.net,
            batch_size=asked.batch_size,
            steps=asked.steps,
            workers=asked.workers,
            compiled=tuple(asked.compile),
            results=asked.results,
        )
    if asked.command == "gpu":
        from benchmarks.headline.gpu import gpu

        return gpu(
            asked.minutes,
            asked.seeds,
            shorten=asked.shorten,
            options=_options(asked),
            results=asked.results,
            progress=not asked.quiet,
        )
    if asked.command == "peak":
        return experiments.record_peak(
            budget=asked.budget,
            held_out=asked.held_out,
            shorten=asked.shorten,
            options=_options(asked),
            results=asked.results,
        )
    if asked.command == "accounting":
        return accounting.report()
    if asked.command == "reading":
        return experiments.reading(asked.results)
    from benchmarks.headline.figures import draw

    return "\n".join(map(str, draw(asked.results)))


def _options(asked: argparse.Namespace) -> dict[str, Any]:
    options = {} if asked.images is None else {"images": asked.images}
    for each in asked.option:
        name, _, value = each.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


if __name__ == "__main__":
    sys.exit(main())
