"""`python -m benchmarks.regret COMMAND`, from the root of the repository."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.regret import find, oracle, others, peers, pilots, repeats, sweeps
from benchmarks.regret.files import RESULTS
from benchmarks.regret.tasks import SPLITS, TASKS, Task, select
from onecycle._suggestion import USES

RATES = 18  # that the oracle tries for a task, as a rule
SEEDS = {
    **dict.fromkeys(("sweeps", "repeats", "find"), sweeps.SEEDS),
    "pilots": pilots.SEEDS,
    "peers": 5,
    "others": 3,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in {
        "tasks": "list the tasks and measure what a run of each takes on one core",
        "oracle": "train the tasks at a grid of rates",
        "sweeps": "record range tests of the tasks",
        "repeats": "record what the default rule suggests from several range tests",
        "find": "record what find_lr suggests",
        "pilots": "record short 1cycle runs of several lengths",
        "peers": "record what other tools suggest, as installed packages",
        "others": "train the tasks with optimizers and fixed rates that look for nothing",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="some tasks only")
        command.add_argument("--split", choices=SPLITS, help="one half only")
        if name == "oracle":
            command.add_argument("--use", choices=USES, default="one_cycle", help="how the rate is used")
        if name in SEEDS:
            command.add_argument("--seeds", type=int, default=SEEDS[name], help="runs of each kind")
        if name == "repeats":
            command.add_argument("--repeats", type=int, default=repeats.REPEATS, help="sweeps of a trial")
        if name == "find":
            command.add_argument("--budget", type=float, default=find.BUDGET, help="share of the length")
        if name != "tasks":
            command.add_argument("--workers", type=int, default=2, help="processes of one thread each")
            command.add_argument(
                "--results", type=Path, default=RESULTS, help="the folder that holds results"
            )
    text = "judge reading rules by what was recorded"
    command = commands.add_parser("report", help=text, description=text)
    command.add_argument("--split", choices=SPLITS, default="dev", help="the half (default: dev)")
    command.add_argument("--rules", nargs="+", default=[], metavar="NAME", help="some rules only")
    command.add_argument(
        "--loss", choices=("val_loss", "train_loss"), default="val_loss", help="what the regret is of"
    )
    command.add_argument("--use", choices=USES, default="one_cycle", help="what the rates are for")
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    for name, text in {
        "search": "what random search and Optuna's TPE reach by the oracle's grid, beside this library",
        "calibration": "how often intervals hold the best rate, against how often they claim to",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--split", choices=SPLITS, default="dev", help="the half (default: dev)")
        command.add_argument("--figure", type=Path, help="where the figure goes; default: with the results")
        command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    text = "how the default rule's constants for SGD do on dev, with one task left out at a time"
    command = commands.add_parser("choose", help=text, description=text)
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    text = "how pilots are read with other constants, on what was recorded of dev"
    command = commands.add_parser("settle", help=text, description=text)
    command.add_argument("--results", type=Path, default=RESULTS, help="the folder that holds results")
    options = parser.parse_args(arguments)
    try:
        if options.command == "settle":
            print(pilots.report(options.results))
            return 0
        if options.command == "choose":
            from benchmarks.regret import choose

            print(choose.report(options.results))
            return 0
        if options.command in ("search", "calibration"):
            from benchmarks.regret import calibration, search

            judge = {"search": search.report, "calibration": calibration.report}[options.command]
            print(judge(options.split, results=options.results, figure=options.figure))
            return 0
        if options.command == "report":
            from benchmarks.regret.report import report

            print(
                report(
                    options.split,
                    options.rules,
                    loss=options.loss,
                    use=options.use,
                    results=options.results,
                )
            )
            return 0
        tasks = select(options.tasks, options.split)
        if options.command == "tasks":
            _list(tasks)
            return 0
        how = {"workers": options.workers, "results": options.results}
        if options.command == "oracle":
            oracle.record(tasks, use=options.use, **how)
        elif options.command == "sweeps":
            sweeps.record(tasks, seeds=options.seeds, **how)
        elif options.command == "repeats":
            repeats.record(tasks, repeats=options.repeats, seeds=options.seeds, **how)
        elif options.command == "find":
            find.record(tasks, budget=options.budget, seeds=options.seeds, **how)
        elif options.command == "pilots":
            pilots.record(tasks, seeds=options.seeds, **how)
        elif options.command == "peers":
            peers.record(tasks, seeds=options.seeds, **how)
        else:
            others.record(tasks, seeds=options.seeds, **how)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was done is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _list(tasks: Sequence[Task]) -> None:
    """A Markdown table."""
    import torch

    torch.set_num_threads(1)
    print(
        "| task | data and net | optimizer | batch | steps | seeds | half | ms per step | seconds per run |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    grid, sweep = dict.fromkeys(SPLITS, 0.0), dict.fromkeys(SPLITS, 0.0)
    for task in tasks:
        step, rest = _seconds(task)
        run = step * task.total_steps + rest
        grid[task.split] += run * task.seeds * RATES / 3600
        sweep[task.split] += (step * sweeps.STEPS + rest) * sweeps.SEEDS / 3600
        print(
            f"| {task.name} | {task.about} | {task.optimizer} | {task.batch_size} | {task.total_steps} "
            f"| {task.seeds} | {task.split} | {1e3 * step:.2f} | {run:.2f} |",
            flush=True,
        )
    print(f"\n{len(tasks)} of {len(TASKS)} tasks; hours of one core:")
    for split in SPLITS:
        print(f"{split}: oracle {grid[split]:.2f} ({RATES} rates a task), sweeps {sweep[split]:.2f} at most")


def _seconds(task: Task) -> tuple[float, float]:
    """Processor time of a step, and of building and evaluating, once the data are in memory."""
    task.build(0)
    begin = time.process_time()
    trial = task.build(0)
    trial.evaluate()
    rest = time.process_time() - begin
    policy = task.policy(task.usual_lr)
    steps = 60
    for step in range(steps + 10):
        if step == 10:
            begin = time.process_time()
        trial.set(**policy(step))
        trial.step()
    return (time.process_time() - begin) / steps, rest


if __name__ == "__main__":
    sys.exit(main())
