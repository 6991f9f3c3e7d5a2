"""The table and the figure: regret of each rule over the tasks of one half."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret import files, find, others, records, repeats
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import summary
from benchmarks.regret.repeats import REPEATS
from benchmarks.regret.rules import (
    CLOSE,
    DEFAULT,
    Case,
    Reading,
    Rule,
    installed,
    judge,
    load,
    named,
    searched,
    spread,
    stored,
)
from benchmarks.regret.tasks import Split, select
from onecycle._suggest import RULES
from onecycle._suggestion import Use

Readings = Mapping[str, Mapping[str, Sequence[Reading]]]  # by rule, by task


def report(
    split: Split = "dev",
    names: Sequence[str] = (),
    *,
    loss: str = "val_loss",
    use: Use = "one_cycle",
    results: Path = RESULTS,
) -> str:
    """Judge rules on one half, write JSON and a figure, and return the tables.

    Args:
        split: the half.
        names: rules of `Curve.suggest`; empty: the default and all others.
        loss: "val_loss" or "train_loss", whichever the regret is of.
        use: what the rates are for; other than "one_cycle", only the default rule is judged, beside what it
            suggests for 1cycle.
        results: where oracle and sweeps lie, and the report goes.
    """
    tasks = select(split=split)
    found = {task.name: load(task, loss=loss, results=results, use=use) for task in tasks}
    cases = [case for case in found.values() if case is not None]
    absent = [name for name, case in found.items() if case is None]
    still = f"oracle or sweeps not complete: {', '.join(absent)}"
    if not cases:
        raise FileNotFoundError(f"{still}; run `python -m benchmarks.regret oracle` and `… sweeps` first")
    chosen: dict[str, Rule] = {name: named(name) for name in names or [DEFAULT, *RULES]}
    if use != "one_cycle":
        chosen = {DEFAULT: named(DEFAULT, use), "as for 1cycle": named(DEFAULT)}
    readings = {name: {case.task.name: judge(rule, case) for case in cases} for name, rule in chosen.items()}
    if not names and use == "one_cycle":
        readings |= _stored(cases, results)
    rows = {name: _row(by_task) for name, by_task in readings.items()}
    stem = (
        f"report-{split}"
        + ("" if loss == "val_loss" else "-train")
        + ("" if use == "one_cycle" else f"-{use}")
    )
    document = {
        "format": "onecycle.regret.report",
        "version": 1,
        "split": split,
        "loss": loss,
        "use": use,
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
        f"regret of the final {what} loss",
        _table(rows),
        _oracle_table(cases, *next((by_task, name) for name, by_task in readings.items())),
        *([_others_table(cases, readings[DEFAULT], results)] if use == "one_cycle" and not names else []),
        *([still] if absent else []),
    ]
    return "\n\n".join(parts)


def _stored(cases: Sequence[Case], results: Path) -> dict[str, dict[str, list[Reading]]]:
    """What `find_lr` and the installed tools suggested, where that is stored for every task."""
    by_rule: dict[str, dict[str, list[Reading]]] = defaultdict(dict)
    for case in cases:
        by_rule[f"find_lr({find.BUDGET:g})"][case.task.name] = searched(case, find.BUDGET, results)
        by_rule[f"{DEFAULT}, {REPEATS} sweeps"][case.task.name] = stored(
            case, repeats.KIND, results, repeats=REPEATS
        )
        for rule, readings in installed(case, results).items():
            by_rule[rule][case.task.name] = readings
    return {
        rule: by_task
        for rule, by_task in by_rule.items()
        if len(by_task) == len(cases) and all(by_task.values())
    }


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
        "cost": statistics.fmean(reading.cost for reading in every),
        "held": _share([reading.held for reading in every if reading.held is not None]),
    }


def _share(held: Sequence[bool]) -> float:
    return statistics.fmean(held) if held else math.nan


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
        f"{'rule':28}{'mean':>8}{'median':>8}{'worst':>8}{'<= 5 %':>8}{'normal.':>9}{'diverged':>10}"
        f"{'refused':>9}{'sd/decades':>12}{'sd <= 0.15':>12}{'cost':>7}{'held':>7}"
    )
    lines = [
        f"{name:28}{r['mean']:8.3f}{r['median']:8.3f}{r['worst']:8.2f}{r['within_5_percent']:8.0%}"
        f"{r['normalised']:9.3f}{r['diverged']:10.0f}{r['refused']:9.0f}{r['spread']:12.2f}{r['close']:12.0%}"
        f"{r['cost']:7.0%}" + ("" if math.isnan(r["held"]) else f"{r['held']:7.0%}")
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


def _others_table(cases: Sequence[Case], ours: Mapping[str, Sequence[Reading]], results: Path) -> str:
    """Other ways to train, where they have been run: how they end, against the oracle's best of the task."""
    ends: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for case in cases:
        for row in records.load(others.KIND, case.task, results):
            one = ends[row["way"]].setdefault(case.task.name, [])
            one.append(case.oracle.lost(row["val_loss"], row["diverged"]))
    if not ends:
        return "other ways to train: none recorded, run `python -m benchmarks.regret others`"
    both = set.intersection(*(set(by_task) for by_task in ends.values()))
    table: dict[str, list[float]] = {
        "default rule, 1cycle": [statistics.fmean(r.regret for r in ours[task]) for task in sorted(both)]
    }
    usual = {case.task.name: case.oracle.regret(case.task.usual_lr) for case in cases}
    found = {case.task.name: searched(case, find.BUDGET, results) for case in cases}
    if all(found[task] for task in both):
        table["find_lr, 1cycle"] = [
            statistics.fmean(reading.regret for reading in found[task]) for task in sorted(both)
        ]
    table["usual rate, 1cycle"] = [usual[task] for task in sorted(both)]
    table |= {way: [statistics.fmean(by_task[t]) for t in sorted(both)] for way, by_task in ends.items()}
    head = (
        f"final validation loss over the oracle's best, minus one, on {len(both)} tasks (means over seeds)\n"
        f"{'way':28}{'mean':>8}{'median':>8}{'worst':>8}{'<= 5 %':>8}{'beats ours':>12}"
    )
    first = next(iter(table.values()))
    lines = [
        f"{way:28}{statistics.fmean(v):8.3f}{statistics.median(v):8.3f}{max(v):8.2f}"
        f"{statistics.fmean(x <= 0.05 for x in v):8.0%}"
        f"{sum(a < b for a, b in zip(v, first, strict=True)):12d}"
        for way, v in sorted(table.items(), key=lambda item: statistics.fmean(item[1]))
    ]
    return "\n".join([head, *lines])
