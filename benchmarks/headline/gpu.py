"""All that wants a GPU, the most important first, within the minutes that one is at hand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import onecycle as oc
from benchmarks.headline import experiments
from benchmarks.headline.experiments import TWO_HALVES, as_planned
from benchmarks.headline.runs import RESULTS, Results, Row, Run, table
from benchmarks.headline.speed import Apart, Here, speed

NET, BATCH, WORKERS = "resnet56", 512, 8
UPDATES = 97  # of an epoch
MODES = ("default", "reduce-overhead")  # of torch.compile
SWEEP = 1000  # steps of the range test

# Experiment and label ("": every one); each is done for seed 0, and then for the other seeds.
FIRST = (
    ("article", "article, as it was, momentum 0.9"),
    ("article", "article, with crop and flip, momentum 0.9"),
    ("recipe", "recipe, 25 epochs"),
    ("recipe", "recipe, 95 epochs"),
    ("recipe", "quick net, found rate"),
)
THEN = tuple((name, "") for name in ("decay", "momentum", "recipe", "article", "batch", "superconvergence"))


def plan(seeds: int) -> Iterator[tuple[str, Run | None]]:
    """The runs by experiment, in order of importance, once each; None: the range test."""
    seen: list[Run] = []
    for parts, after in ((FIRST, "range"), (THEN, None)):
        for seed in range(seeds):
            for name, label in parts:
                for run in experiments.EXPERIMENTS[name][0](seed):
                    if label in ("", run.label) and run not in seen:
                        seen.append(run)
                        yield name, run
        if after:
            yield after, None


def gpu(
    minutes: float,
    seeds: int = 3,
    *,
    shorten: float = 1.0,
    options: dict[str, Any] | None = None,
    results: Path = RESULTS,
    progress: bool = True,
    timed: type[Here | Apart] = Apart,
) -> str:
    """Do what is not yet done of the plan until `minutes` are over; the tables of what there is.

    Each result is kept as it comes, in the file of its own experiment. A run that is not expected to end
    in time is left out, and what fails is told and left out.

    Args:
        minutes: counted from now.
        seeds: of each run, from 0.
        shorten: divides every length.
        options: of the task, for every run; without `compile`, what was fastest is used.
        results: the folder of the files.
        progress: show the runs while they go on.
        timed: where `speed` runs each loop.
    """
    end = time.monotonic() + 60 * minutes
    options = dict(options or {})
    failed: list[str] = []

    def attempt(what: str, job: Callable[[], object]) -> None:
        try:
            job()
        except (RuntimeError, ValueError, oc.Inconclusive) as error:
            failed.append(f"{what} failed: {str(error).splitlines()[0]:.300}")
            print(failed[-1], file=sys.stderr)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loops = Results(f"speed-{NET}-{device}", results)
    if not loops.rows:
        steps = max(round(UPDATES / shorten), 1)
        settings: dict[str, Any] = {"steps": steps, "batch_size": BATCH, "repeats": 3, "workers": (WORKERS,)}
        settings |= {"compiled": MODES if device == "cuda" else (), "results": results, "timed": timed}
        attempt("speed", partial(speed, NET, **settings, **options))
        loops = Results(f"speed-{NET}-{device}", results)
    if "compile" not in options and (mode := fastest(loops.rows)):
        options["compile"] = mode
    left_out = 0
    for name, run in plan(seeds):
        if run is None:
            job = partial(_range, max(round(SWEEP / shorten), 10), options, results, progress)
            if time.monotonic() < end:
                attempt(name, job)
            continue
        kept, form = Results(name, results), as_planned(run, shorten, options)
        if kept.of(form) is not None:
            continue
        done = [row for each in experiments.EXPERIMENTS for row in Results(each, results).rows]
        if time.monotonic() + expected(form, done) > end:
            left_out += 1
            continue
        attempt(f"{form.label}, seed {form.seed}", partial(kept.do, form, progress=progress))
    names = dict.fromkeys(name for name, run in plan(1) if run is not None)
    tables = [f"{name}:\n\n{table(rows)}\n" for name in names if (rows := Results(name, results).rows)]
    return "\n".join([*tables, *failed, f"left out for want of time: {left_out} runs"])


def _range(steps: int, options: dict[str, Any], results: Path, progress: bool) -> None:
    experiments.range_tests(
        steps=steps, options={**options, "shortcut": "conv"}, results=results, progress=progress
    )


def fastest(rows: Sequence[Row]) -> str | None:
    """The mode of `torch.compile` with which 95 epochs end first, compiling included; None: without."""
    ours = {row["loop"].rpartition("compile ")[2]: row for row in rows if row["loop"].startswith("ours, bf")}

    def seconds(row: Row) -> float:
        images = TWO_HALVES * UPDATES * BATCH
        return float(row["seconds_of_first_steps"] + images / max(row["images_per_second"]))

    best = min(ours, key=lambda mode: seconds(ours[mode]), default=None)
    return best if best in MODES else None


def expected(run: Run, rows: Sequence[Row]) -> float:
    """Seconds that `run` will take by the rows of the same net and batch size, 0 where there are none."""
    alike = [
        row
        for row in rows
        if (row["net"], row["batch_size"], row["steps"] is None)
        == (run.net, run.batch_size, run.steps is None)
    ]
    if not alike:
        return 0.0
    row = alike[-1]
    searched = row["found"]["seconds"] if "found" in row else 0.0
    each = (row["seconds"] + row["seconds_of_compiling"] + searched) / row["steps_done"]
    length = run.steps or run.epochs * row["steps_done"] / row["epochs"]
    return float(each * length)
