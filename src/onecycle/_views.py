"""What curves, suggestions and policies look like: as charts for the report, as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

import numpy as np

from onecycle._anchors import anchors
from onecycle._charts import POINTS, Band, Chart, Mark, Series
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._numbers import number
from onecycle._policy import Policy
from onecycle._suggestion import Suggestion

NAMES = {"lr": "learning rate", "weight_decay": "weight decay", "momentum": "momentum"}


def curve_chart(curve: Curve, found: Suggestion | Inconclusive | None = None, name: str = "") -> Chart:
    """A range test with what was read off it, or with the refusal.

    Args:
        curve: what was recorded.
        found: what to mark; the default rule's suggestion, or its refusal, where left out.
        name: of the chart.
    """
    from onecycle.plot import loss_limits

    found = reading(curve) if found is None else found
    seen = anchors(curve)
    shown = curve.value > 0
    label = NAMES.get(curve.hyper, curve.hyper)
    series = [
        Series("loss of each mini-batch", curve.value[shown], curve.loss[shown], "dots", "muted", role="raw")
    ]
    if curve.val_loss is not None:
        measured = shown & np.isfinite(curve.val_loss)
        series.append(
            Series("validation loss", curve.value[measured], curve.val_loss[measured], "both", "ink")
        )
    series.append(Series("smoothed", *curve.smooth(), role="smooth"))
    marks, bands = [], []
    words = [f"Loss over {label}, {len(curve)} points"]
    if shown.any():
        words[0] += f" from {number(float(curve.value[shown].min()))} to {number(float(curve.value.max()))}"
    if seen.minimum is not None:
        words.append(
            f"It falls from {number(seen.start)}, fastest at {number(seen.steepest)}, and is least, "
            f"{number(seen.best)}, at {number(seen.minimum)}"
        )
    if seen.divergence is not None:
        words.append(f"It has diverged at {number(seen.divergence)}")
        bands.append(Band(seen.divergence, float(curve.value.max()), "diverged", "danger"))
    if isinstance(found, Suggestion):
        bands.insert(0, Band(found.low, found.high, "interval"))
        marks.append(Mark(found.value, number(found.value)))
        words.append(f"Suggested: {number(found.value)}, from {number(found.low)} to {number(found.high)}")
    else:
        words.append(f"No suggestion: {found.reason}")
    ratio = curve.value[shown].max() / curve.value[shown].min() if shown.any() else 1
    return Chart(
        name or "Range test",
        ". ".join(words) + ".",
        label,
        "loss",
        series,
        bands,
        marks,
        xlog=bool(ratio > 3),
        ylim=loss_limits(curve),
    )


def reading(curve: Curve) -> Suggestion | Inconclusive:
    """The default rule's suggestion, or its refusal."""
    try:
        return curve.suggest()
    except Inconclusive as refusal:
        return refusal


def policy_charts(policy: Policy) -> list[Chart]:
    """One chart for each schedule of a policy; one without end is drawn over its first two cycles."""
    from onecycle.plot import drawn_length

    length = drawn_length(policy)
    steps = np.unique(np.linspace(0, length - 1, POINTS).round())
    charts = []
    for name, values in policy(steps).items():
        label = NAMES.get(name, name)
        top = int(np.argmax(values))
        words = (
            f"{label.capitalize()} over {number(length)} updates: {number(float(values[0]))} at the first, "
            f"least {number(float(values.min()))}, most {number(float(values[top]))} at update "
            f"{number(int(steps[top]))}, {number(float(values[-1]))} at the last."
        )
        look: Literal["line", "both"] = "line" if len(steps) > 1 else "both"
        flat = bool(np.ptp(values) == 0)
        charts.append(
            Chart(
                label.capitalize(), words, "update", label,
                [Series(label, steps, values, look, "accent" if name == "lr" else "ink")],
                ylim=None if name == "momentum" or flat else (0, float(values.max()) * 1.08),
                width=430, height=230,
            )
        )  # fmt: skip
    return charts


# In notebooks -------------------------------------------------------------------------------------------


def drawn(charts: Sequence[Chart], words: str = "") -> str:
    """Charts beside each other, with escaped words below: what a notebook shows."""
    parts = "".join(
        f'<div style="flex:1 1 {chart.width // 2}px;max-width:{chart.width}px">{chart.svg()}</div>'
        for chart in charts
    )
    below = f"<div>{escape(words)}</div>" if words else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:16px">{parts}</div>{below}'


def curve_html(curve: Curve) -> str:
    """A range test with its suggestion, or the reason why there is none."""
    found = reading(curve)
    words = str(found) if isinstance(found, Suggestion) else f"No suggestion: {found.reason}"
    return drawn([curve_chart(curve, found)], words)


def suggestion_html(found: Suggestion) -> str:
    """The value, its interval, and why."""
    name = "max_lr" if found.hyper == "lr" else found.hyper
    return (
        f"<div><b>{escape(name)} {number(found.value)}</b>, {number(found.low)} to {number(found.high)}, "
        f"by rule {escape(found.rule)}</div><div>{escape(found.reason)}</div>"
    )


def table_html(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    left = 'style="text-align:left"'
    lines = "".join(
        f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>" for name, value in rows
    )
    return f"<table>{lines}</table>"
