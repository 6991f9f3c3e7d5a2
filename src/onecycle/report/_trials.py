"""Panels of what `tune` tried, one for each of its stages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from onecycle._charts import Band, Chart, Mark, Series, ramp, smoothed
from onecycle._numbers import number
from onecycle.report._read import Trial, numeric

# Stage: what it varies, what that is called, the title of its section.
VARIED = {
    "rate": ("max_lr", "peak learning rate", "Learning rate"),
    "weight_decay": ("weight_decay", "weight decay", "Weight decay"),
    "momentum": ("momentum", "momentum", "Momentum"),
    "batch_size": ("batch_size", "batch size", "Batch size"),
    "length": ("steps", "updates", "Length of training"),
    "check": ("seed", "seed", "The recipe, checked"),
    "search": ("max_lr", "peak learning rate", "Search"),
}
DRAWN = 24  # lines of one chart, at the most
LISTED = 10  # names in its legend, at the most
FAR = 8  # times the least loss, beyond which a logarithmic axis shows more


def outcomes(trials: Sequence[Trial], stage: str, decision: Mapping[str, Any] | None) -> Chart | None:
    """What each run of a stage came to, over what the stage varies; None without a run that tells."""
    key, label, _ = VARIED[stage]
    runs = [(x, t) for t in trials if not t.sweep and (x := t.setting(key)) is not None]
    ended = sorted((x, t.loss) for x, t in runs if math.isfinite(t.loss))
    if not ended or stage == "check":
        return None
    values = sorted({x for x, _ in runs})
    positive = [x for x in values if x > 0]
    xlog = key in ("max_lr", "weight_decay", "batch_size", "steps") and len(positive) > 1
    zero = positive[0] / 10 if xlog and values[0] <= 0 else None

    def place(x: float) -> float:
        return zero if zero is not None and x <= 0 else x

    by_value = defaultdict(list)
    for x, loss in ended:
        by_value[x].append(loss)
    means = {x: sum(losses) / len(losses) for x, losses in by_value.items()}
    series = []
    if len(means) > 1 and stage != "search":
        name = "mean of the runs at a value" if len(ended) > len(means) else "line between them"
        xs = [place(x) for x in means]
        series.append(Series(name, xs, list(means.values()), "thin", listed=len(ended) > len(means)))
    series.append(Series("a run", [place(x) for x, _ in ended], [loss for _, loss in ended], "dots"))
    low, high = min(loss for _, loss in ended), max(loss for _, loss in ended)
    middle = float(np.median([loss for _, loss in ended]))
    # One run that ended badly would press all others into a line.
    top = min(high, middle + 4 * (middle - low)) if middle > low and len(ended) > 7 else high
    margin = 0.12 * (top - low) or 0.1 * (abs(low) or 1.0)
    ylog = low > 0 and top > FAR * low
    roof = top * 1.3 if ylog else top + margin
    lost = [place(x) for x, t in runs if not math.isfinite(t.loss)]
    if lost:
        series.append(
            Series(
                "diverged (drawn at the top)", lost, [top + 0.8 * (roof - top)] * len(lost), "dots", "danger"
            )
        )
    best_x, best = min(means.items(), key=lambda pair: pair[1])
    words = [
        f"Loss of {len(runs)} runs over {label}",
        f"least at {number(best_x)}, with {number(best)}",
        "; ".join(f"{number(x)}: {number(loss)}" for x, loss in list(means.items())[:12]),
    ]
    if lost:
        words.append(f"{len(lost)} diverged")
    marks, bands = chosen(decision, zero)
    return Chart(
        "Loss at the end of each run", ". ".join(words) + ".", label, "loss", series, bands, marks,
        xlog=xlog, ylog=ylog, ylim=(low / 1.3 if ylog else low - margin, roof), zero=zero,
        xticks=[place(x) for x in values] if len(values) <= 8 else None, height=260,
    )  # fmt: skip


def chosen(decision: Mapping[str, Any] | None, zero: float | None) -> tuple[list[Mark], list[Band]]:
    """The mark of what was decided, and the band of its interval, as far as it tells them."""
    if decision is None:
        return [], []
    value = decision.get("value")
    if isinstance(value, (list, tuple)) and value:
        value = value[-1]
    at, low, high = numeric(value), numeric(decision.get("low")), numeric(decision.get("high"))
    if at is None:
        return [], []
    marks = [Mark(zero if zero is not None and at <= 0 else at, f"chosen {number(at)}")]
    return marks, [] if low is None or high is None or low >= high else [Band(low, high, "interval")]


def sweeps(trials: Sequence[Trial], stage: str) -> Chart | None:
    """The range tests of a stage over each other; None where it has none."""
    key, label, _ = VARIED[stage]
    key, label = (key, label) if key != "max_lr" else ("seed", "seed")
    found = sorted(
        ((t.setting(key), t.result.read_curve()) for t in trials if t.sweep and t.result.curve),
        key=lambda pair: math.inf if pair[0] is None else pair[0],
    )
    curves = _spread([(x, curve) for x, curve in found if len(curve)])
    if not curves:
        return None
    from onecycle.plot import loss_limits

    series, limits, words = [], [], []
    for i, (x, curve) in enumerate(curves):
        shade = ramp(i, len(curves))
        value, loss = curve.smooth()
        name = f"{label} {number(x)}"
        shown = curve.value > 0
        series.append(
            Series(name, curve.value[shown], curve.loss[shown], "dots", shade, role="raw", listed=False)
        )
        series.append(Series(name, value, loss, tone=shade, role="smooth", listed=len(curves) <= LISTED))
        if (seen := loss_limits(curve)) is not None:
            limits.append(seen)
        if loss.size:
            words.append(
                f"{name}: least {number(float(loss.min()))} at {number(float(value[loss.argmin()]))}"
            )
    ylim = (min(a for a, _ in limits), max(b for _, b in limits)) if limits else None
    swept = curves[0][1].hyper
    return Chart(
        "Range tests", f"Loss over the rate of {len(found)} range tests. {'; '.join(words)}.",
        {"lr": "learning rate"}.get(swept, swept), "loss", series, xlog=swept == "lr", ylim=ylim,
    )  # fmt: skip


def courses(trials: Sequence[Trial], stage: str) -> Chart | None:
    """The loss of a stage's runs as they trained; None where none kept its record."""
    key, label, _ = VARIED[stage]
    runs = [
        (t.setting(key), t) for t in trials if not t.sweep and (t.history("val")[0] or t.history("loss")[0])
    ]
    if not runs:
        return None
    if stage == "search":  # there, how a run ended tells more than any one setting
        runs, label = [(t.loss, t) for _, t in runs], "ended at"
    runs.sort(key=lambda pair: math.inf if pair[0] is None else pair[0])
    shown = _spread(runs)
    many = len(shown) > LISTED
    validated = all(t.history("val")[0] for _, t in shown)
    series: list[Series] = []
    for i, (x, t) in enumerate(shown):
        name, shade = f"{label} {number(x)}" if x != math.inf else "diverged", ramp(i, len(shown))
        pair = t.job.momentum
        if stage == "momentum" and isinstance(pair, tuple):
            name = f"{label} {' to '.join(map(number, pair))}"
        if stage == "check":
            name = f"{number(t.job.steps)} updates, {name}"
        if validated:
            look: Literal["line", "both"] = "line" if many else "both"
            step, loss = t.history("val")
            series.append(Series(name, step, loss, look, shade, listed=not many))
        else:
            step, loss = t.history("loss")
            series.append(Series(name, step, loss, "thin", shade, role="raw", listed=False))
            series.append(Series(name, step, smoothed(loss), tone=shade, role="smooth", listed=not many))
    inner = bulk([s.y for s in series])
    lowest = min((float(np.nanmin(s.y)) for s in series if len(s.y) and np.isfinite(s.y).any()), default=0.0)
    ylog = inner is not None and lowest > 0 and inner[1] > FAR * lowest
    what = "Validation loss" if validated else "Training loss"
    least = min((t.loss for _, t in runs), default=math.inf)
    words = f"{what} of {len(runs)} runs as they trained; the best ended at {number(least)}."
    note = f", {len(shown)} of {len(runs)} of them" if len(shown) < len(runs) else ""
    note += f"; light to dark from {series[0].name} to {series[-1].name}" if many else ""
    return Chart(
        f"{what} as the runs went{note}", words, "update", what.lower(), series, height=260,
        ylog=ylog, ylim=None if ylog else inner,
    )  # fmt: skip


def _spread(items: list[Any]) -> list[Any]:
    if len(items) <= DRAWN:
        return items
    return [items[round(i * (len(items) - 1) / (DRAWN - 1))] for i in range(DRAWN)]


def bulk(parts: Sequence[Any]) -> tuple[float, float] | None:
    """Where nearly all of the values lie, for runs of which some explode."""
    values = np.concatenate([np.asarray(part, float) for part in parts])
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = (float(q) for q in np.quantile(values, (0.0, 0.98)))
    margin = 0.06 * (high - low)
    return (low - margin, high + margin) if margin > 0 else None
