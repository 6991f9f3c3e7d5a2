"""The command: see `python -m benchmarks.headline --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline import accounting, experiments
from benchmarks.headline.runs import RESULTS


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
        _smaller(command)
    command = commands.add_parser("range", help="range tests of ResNet-56, read beside Smith's")
    command.add_argument("--steps", type=int, default=5000, help="of the linear one (default: 5000)")
    command.add_argument("--net", default="resnet56", help="a net of onecycle.tasks.cifar10")
    _smaller(command)
    command = commands.add_parser("order", help="the comparison for a CPU: 1cycle against its rivals")
    command.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    command.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    command = commands.add_parser("speed", help="images per second against a plain PyTorch loop")
    command.add_argument("--net", default="resnet20", help="a net of onecycle.tasks.cifar10")
    command.add_argument("--batch-size", type=int, default=128)
    command.add_argument("--steps", type=int, default=20, help="timed at once (default: 20)")
    command.add_argument("--workers", type=int, default=0, help="processes of the plain loop's loader")
    command.add_argument("--threads", type=int, default=1, help="of torch on a CPU (default: 1)")
    command.add_argument("--compile", nargs="*", default=[], metavar="MODE", help="modes to time, too")
    commands.add_parser("accounting", help="what the article's printed accuracies are")
    commands.add_parser("reading", help="what is read off Smith's range tests, and ours where done")
    commands.add_parser("figures", help="draw what is there")
    for command in set(commands.choices.values()):
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

    if asked.command in experiments.EXPERIMENTS:
        return experiments.record(
            asked.command,
            asked.seeds,
            shorten=asked.shorten,
            images=asked.images,
            options=_options(asked.option),
            results=asked.results,
            progress=not asked.quiet,
        )
    if asked.command == "range":
        return experiments.range_tests(
            steps=asked.steps,
            net=asked.net,
            images=asked.images,
            options=_options(asked.option),
            results=asked.results,
            progress=not asked.quiet,
        )
    if asked.command == "order":
        from benchmarks.headline.order import order

        torch.set_num_threads(asked.threads)
        return order(asked.seeds, folder=asked.results, progress=not asked.quiet)
    if asked.command == "speed":
        from benchmarks.headline.speed import speed

        torch.set_num_threads(asked.threads)
        return speed(
            asked.net,
            batch_size=asked.batch_size,
            steps=asked.steps,
            workers=asked.workers,
            compiled=tuple(asked.compile),
            results=asked.results,
        )
    if asked.command == "accounting":
        return accounting.report()
    if asked.command == "reading":
        return experiments.reading(asked.results)
    from benchmarks.headline.figures import draw

    return "\n".join(map(str, draw(asked.results)))


def _options(given: Sequence[str]) -> dict[str, Any]:
    options = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


if __name__ == "__main__":
    sys.exit(main())
