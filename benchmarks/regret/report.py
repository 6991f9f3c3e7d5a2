"""The table and the figure: regret of each rule over the tasks of one half."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret import files
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import summary
from benchmarks.regret.rules import DEFAULT, Case, Reading, judge, load, named, spread
from benchmarks.regret.tasks import Split, select
from onecycle._suggest import RULES

Readings = Mapping[str, Mapping[str, Sequence[Reading]]]  # by rule, by task
CLOSE = 0.15  # decades, a standard deviation that a user does not mind


def report(
    split: Split = "dev",
    names: Sequence[str] = (),
    *,
    repeats: int = 1,
    loss: str = "val_loss",
    results: Path = RESULTS,
) -> str:
    """Judge rules on one half, write JSON and a figure, and return the tables.

    Args:
        split: the half.
        names: rules of `Curve.suggest`; empty: the default and all others.
        repeats: sweeps that are read together.
        loss: "val_loss" or "train_loss", whichever the regret is of.
        results: where oracle and sweeps lie, and the report goes.
    """
    tasks = select(split=split)
    found = {task.name: load(task, loss=loss, results=results) for task in tasks}
    cases = [case for case in found.values() if case is not None]
    absent = [name for name, case in found.items() if case is None]
    still = f"oracle or sweeps not complete: {', '.join(absent)}"
    if not cases:
        raise FileNotFoundError(f"{still}; run `python -m benchmarks.regret oracle` and `… sweeps` first")
    chosen = list(names) or [DEFAULT, *RULES]
    readings = {name: {c.task.name: judge(named(name), c, repeats) for c in cases} for name in chosen}
    rows = {name: _row(by_task) for name, by_task in readings.items()}
    stem = (
        f"report-{split}" + ("" if loss == "val_loss" else "-train") + (f"-{repeats}" if repeats > 1 else "")
    )
    document = {
        "format": "onecycle.regret.report",
        "version": 1,
        "split": split,
        "loss": loss,
        "repeats": repeats,
        "made_with": [files.made_with()],
        "rules": rows,
        "rows": [
            {"rule": name, **_task_row(task, by_task[task])}
            for name, by_task in readings.items()
            for task in by_task
        ],
    }
    files.write(results / f"{stem}.json", document)
    from benchmarks.regret.figure import draw

    draw(cases, readings, results / f"{stem}.png")
    what = "validation" if loss == "val_loss" else "training"
    parts = [
        f"{split} half: {len(cases)} tasks, {sum(len(c.curves) for c in cases)} sweeps, "
        f"{repeats} read together; regret of the final {what} loss",
        _table(rows),
        _oracle_table(cases, readings[chosen[0]], chosen[0]),
        *([still] if absent else []),
    ]
    return "\n\n".join(parts)


def _row(by_task: Mapping[str, Sequence[Reading]]) -> dict[str, float]:
    """One rule over all tasks and seeds; every task has the same weight."""
    every = [reading for readings in by_task.values() for reading in readings]
    spreads = [spread(readings) for readings in by_task.values()]
    return {
        **summary(reading.regret for reading in every),
        "normalised": statistics.fmean(reading.normalised for reading in every),
        "diverged": sum(reading.diverged for reading in every),
        "refused": sum(reading.refused is not None for reading in every),
        "spread": statistics.median(spreads),
        "close": statistics.fmean(value <= CLOSE for value in spreads),
    }


def _task_row(task: str, readings: Sequence[Reading]) -> dict[str, Any]:
    return {
        "task": task,
        **summary(reading.regret for reading in readings),
        "spread": round(spread(readings), 4),
        "rates": files.short([reading.rate for reading in readings], 4),
        "refused": sorted({reading.refused for reading in readings if reading.refused is not None}),
    }


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    head = (
        f"{'rule':16}{'mean':>8}{'median':>8}{'worst':>8}{'<= 5 %':>8}{'normal.':>9}{'diverged':>10}"
        f"{'refused':>9}{'sd/decades':>12}{'sd <= 0.15':>12}"
    )
    lines = [
        f"{name:16}{r['mean']:8.3f}{r['median']:8.3f}{r['worst']:8.2f}{r['within_5_percent']:8.0%}"
        f"{r['normalised']:9.3f}{r['diverged']:10.0f}{r['refused']:9.0f}{r['spread']:12.2f}{r['close']:12.0%}"
        for name, r in sorted(rows.items(), key=lambda item: item[1]["mean"])
    ]
    return "\n".join([head, *lines])


def _oracle_table(cases: Sequence[Case], by_task: Mapping[str, Sequence[Reading]], rule: str) -> str:
    head = (
        f"{'task':30}{'best rate':>11}{'within 5 %':>20}{'best loss':>11}{'+-':>7}{'usual rate':>12}"
        f"{'   rule ' + rule + ': mean regret':>26}"
    )
    lines = []
    for case in cases:
        oracle, name = case.oracle, case.task.name
        low, high = oracle.plateau()
        lines.append(
            f"{name:30}{oracle.best_rate:11.2g}{f'{low:.2g} to {high:.2g}':>20}{oracle.best:11.4g}"
            f"{oracle.noise:7.1%}{oracle.regret(case.task.usual_lr):12.3f}"
            f"{statistics.fmean(reading.regret for reading in by_task[name]):26.3f}"
            + ("" if oracle.trains else "  trains at no rate")
        )
    return "\n".join([head, *lines])
