"""How whole runs went: their losses and metrics over the updates, and where they ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from onecycle._charts import Chart, Series, smoothed
from onecycle._numbers import NONE, number
from onecycle.report._html import figure, table_of
from onecycle.report._read import Run
from onecycle.report._trials import bulk
from onecycle.report._words import metric_of, name_of

RUNS = {"metrics.csv": "1cycle", "baseline.csv": "constant rate"}


def training(run: Run) -> str:
    """Charts of losses and metrics, and a table of how each run ended; empty where there is none."""
    if not run.histories:
        return ""
    losses: list[Series] = []
    validation: list[Series] = []
    metrics: dict[str, list[Series]] = {}
    rows = []
    for file, history in run.histories.items():
        name, main = RUNS[file], file == "metrics.csv"
        steps, loss = history.column("loss")
        losses.append(Series(f"{name}, each batch", steps, loss, "thin", _of(main), role="raw", listed=False))
        losses.append(
            Series(f"{name}, training", steps, smoothed(loss), "line", _of(main), not main, role="smooth")
        )
        if (points := history.column("val_loss"))[0]:
            look = Series(f"{name}, validation", *points, "both", _of(main), not main)
            validation.append(look)
        for metric in history.metrics:
            look = Series(name, *history.column(metric), "both", _of(main), not main)
            metrics.setdefault(metric, []).append(look)
        last = {n: history.last(n) for n in (*history.metrics, "val_loss", "loss")}
        cells = [metric_of(n, v) if v is not None else NONE for n, v in last.items()]
        rows.append((["Run", "Updates", *map(name_of, last)], [name, number(len(history.rows)), *cells]))
    charts = [_losses("Training loss", losses)]
    if validation:
        charts.append(_losses("Validation loss", validation))
    for metric, series in metrics.items():
        ends = "; ".join(f"{s.name} ends at {metric_of(metric, s.y[-1])}" for s in series)
        title = name_of(metric).capitalize()
        charts.append(
            Chart(title, f"{title} over the updates: {ends}.", "update", name_of(metric), series, height=240)
        )
    head = max((h for h, _ in rows), key=len)
    body = [cells + [NONE] * (len(head) - len(cells)) for _, cells in rows]
    table = table_of(
        [escape(name[:1].upper() + name[1:]) for name in head], body, "Results", "r" + "n" * len(head)
    )
    return "".join(figure(chart, "y") for chart in charts) + table


def _of(main: bool) -> str:
    return "accent" if main else "muted"


def _losses(title: str, series: Sequence[Series]) -> Chart:
    ends = "; ".join(
        f"{s.name} from {number(float(s.y[0]))} to {number(float(s.y[-1]))}"
        for s in series
        if s.role != "raw"
    )
    positive = all(value > 0 for s in series for value in s.y if math.isfinite(value))
    limits = bulk([s.y for s in series]) if not positive else None
    return Chart(
        title, f"{title} over the updates: {ends}.", "update", "loss", series, ylog=positive, ylim=limits,
        height=260,
    )  # fmt: skip
