"""Charts as inline SVG, for the report and for notebooks; they take the colours of the page around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Literal

import numpy as np

from onecycle._numbers import decade, number
from onecycle._schedules import Array

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 46
POINTS = 300  # of one line; more cannot be told apart on a screen

# Each tone is a variable of the page's style, and a colour for pages that have none. The ramp of one hue
# is for ordered runs, such as those of rising weight decay.
TONES = {
    "accent": "#2f62d9",
    "ink": "#3c4350",
    "muted": "#7b8494",
    "danger": "#c0362c",
    **{f"ramp{i}": tone for i, tone in enumerate(("#9db7f0", "#7094e8", "#4a74de", "#2c55c2", "#1d3b8c"))},
}
RAMP = 5


@dataclass(frozen=True)
class Series:
    """One line or cloud of points; `role` says which part the smoothing switch shows and hides."""

    name: str
    x: Sequence[float] | Array
    y: Sequence[float] | Array
    look: Literal["line", "dots", "both", "thin"] = "line"
    tone: str = "accent"
    dashed: bool = False
    role: Literal["", "raw", "smooth"] = ""
    listed: bool = True  # in the legend


@dataclass(frozen=True)
class Band:
    """A stretch of the x axis."""

    low: float
    high: float
    label: str
    tone: str = "accent"


@dataclass(frozen=True)
class Mark:
    """A vertical line with its label above the plot."""

    x: float
    label: str
    tone: str = "accent"


@dataclass(frozen=True)
class Chart:
    """What is drawn; `description` is the alternative text and states the numbers.

    Args:
        title: names the chart.
        description: alternative text.
        xlabel: name of the x axis.
        ylabel: name of the y axis.
        series: what is drawn, the last on top.
        bands: stretches of the x axis, under the series.
        marks: vertical lines.
        xlog: whether x is logarithmic.
        ylog: whether y is logarithmic.
        ylim: the part of y that is shown; all of it where None.
        zero: where on a logarithmic x axis 0 is drawn; it is labelled "0".
        xticks: values to label on the x axis; round ones where None.
        width: of the drawing, in pixels where the page has room for it.
        height: of the drawing.
    """

    title: str
    description: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()
    xlog: bool = False
    ylog: bool = False
    ylim: tuple[float, float] | None = None
    zero: float | None = None
    xticks: Sequence[float] | None = None
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def limit(self) -> int:
        """Points that a line may have: many lines share what one page can hold."""
        return max(POINTS // 8, min(POINTS, 20 * POINTS // max(len(self.series), 1)))

    def _xticks(self, x0: float, x1: float) -> list[tuple[float, str]]:
        if self.xticks is None:
            return ticks(x0, x1, self.xlog, self.zero)
        return [(v, "0" if v == self.zero else number(v)) for v in self.xticks]

    def view(self) -> tuple[float, float, float, float]:
        """(x0, x1, y0, y1) that is shown; on a logarithmic axis in decades."""
        dots = any(s.look in ("dots", "both") and not s.role for s in self.series)
        x = _domain([s.x for s in self.series], self.xlog, 0.015 if dots else 0.0)
        if self.ylim is not None and not (self.ylog and self.ylim[0] <= 0):
            y = tuple(map(math.log10, self.ylim)) if self.ylog else self.ylim
        else:
            y = _domain([s.y for s in self.series], self.ylog, 0.06)
        return (*_wide(*x), *_wide(*y))

    def data(self) -> dict[str, Any]:
        """What the page's script draws again when a person zooms; numbers to five digits."""
        x0, x1, _, _ = self.view()
        return {
            "series": [
                {
                    "name": s.name,
                    "points": [
                        [_short(x), _short(y)] for x, y in zip(*thin(s.x, s.y, self.limit), strict=True)
                    ],
                    "look": s.look,
                    "tone": s.tone,
                    "dashed": s.dashed,
                    "role": s.role,
                    "listed": s.listed,
                }
                for s in self.series
            ],
            "bands": [[_short(b.low), _short(b.high), b.tone] for b in self.bands],
            "marks": [[_short(m.x), m.label, m.tone] for m in self.marks],
            "view": [_short(part) for part in self.view()],
            "log": [self.xlog, self.ylog],
            "zero": self.zero,
            "ticks": [[_short(v), label] for v, label in self._xticks(x0, x1)] if self.xticks else None,
            "labels": [self.xlabel, self.ylabel],
            "box": [self.width, self.height, LEFT, RIGHT, TOP, BOTTOM],
        }

    def svg(self) -> str:
        """One `<svg>` that stands by itself, with no ids, styles or links in it."""
        x0, x1, y0, y1 = self.view()
        wide, high = self.width - LEFT - RIGHT, self.height - TOP - BOTTOM
        to_x = _Scale(x0, x1, 0, wide, self.xlog)
        to_y = _Scale(y0, y1, high, 0, self.ylog)
        parts = [
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.description)}" '
            'style="width:100%;height:auto;display:block;font:12px system-ui,sans-serif" '
            'fill="currentColor" xmlns="http://www.w3.org/2000/svg">'
        ]
        for value, label in self._xticks(x0, x1):
            x = LEFT + to_x(value)
            parts.append(_rule(x, TOP, x, TOP + high))
            parts.append(_text(x, TOP + high + 17, label, "middle"))
        for value, label in ticks(y0, y1, self.ylog):
            y = TOP + to_y(value)
            parts.append(_rule(LEFT, y, self.width - RIGHT, y))
            parts.append(_text(LEFT - 8, y + 4, label, "end"))
        parts.append(f'<svg x="{LEFT}" y="{TOP}" width="{wide}" height="{high}" overflow="hidden">')
        for band in self.bands:
            left, right = sorted((max(to_x(band.low), 0), min(to_x(band.high), wide)))
            if right > left:
                parts.append(
                    f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{high}" '
                    f'style="fill:{tone(band.tone)}" fill-opacity="0.12"/>'
                )
        for s in self.series:
            xs, ys = thin(s.x, s.y, self.limit)
            parts.append(_draw(s, to_x.all(xs), to_y.all(ys)))
        parts.append("</svg>")
        for mark in self.marks:
            at = to_x(mark.x)
            if 0 <= at <= wide:
                x = LEFT + at
                parts.append(_rule(x, TOP - 4, x, TOP + high, mark.tone))
                anchor = "start" if at < wide * 0.12 else "end" if at > wide * 0.88 else "middle"
                parts.append(_text(x, TOP - 9, mark.label, anchor, mark.tone))
        parts.append(_text(LEFT + wide / 2, self.height - 8, self.xlabel, "middle"))
        parts.append(_text(LEFT - 50, 12, self.ylabel, "start"))
        return "".join(parts) + "</svg>"

    def legend(self) -> str:
        """The series' names with their looks, as a list."""
        shown = [(i, s) for i, s in enumerate(self.series) if s.listed]
        if len(shown) < 2:
            return ""
        return (
            '<ul class="legend">'
            + "".join(f'<li data-series="{i}">{swatch(s)}{escape(s.name)}</li>' for i, s in shown)
            + "</ul>"
        )


def swatch(s: Series) -> str:
    """The look of a series, small."""
    line = "" if s.look == "dots" else _draw(replace(s, look="line"), np.array([1.0, 21.0]), np.full(2, 6.0))
    dot = (
        _draw(replace(s, look="dots"), np.full(1, 11.0), np.full(1, 6.0))
        if s.look in ("dots", "both")
        else ""
    )
    return (
        f'<svg width="22" height="12" aria-hidden="true" xmlns="http://www.w3.org/2000/svg">{line}{dot}</svg>'
    )


def tone(name: str) -> str:
    """The colour of that name: the page's, or one that stands on light and dark."""
    return f"var(--{name},{TONES[name]})"


def ramp(i: int, n: int) -> str:
    """The tone of the i-th of n ordered runs."""
    return f"ramp{round(i * (RAMP - 1) / max(n - 1, 1))}" if n > 1 else "accent"


class _Scale:
    """From values to the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.low, self.start, self.log = low, start, log
        self.slope = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        if self.log:
            value = math.log10(value) if value > 0 else -400
        return self.start + (value - self.low) * self.slope

    def all(self, values: Array) -> Array:
        """Many at once; NaN where a logarithmic axis has no place for a value."""
        if self.log:
            values = np.log10(np.where(values > 0, values, np.nan))
        # A browser draws nothing of a path with a number beyond its range.
        return np.clip(self.start + (values - self.low) * self.slope, -1e4, 1e4)


def _draw(s: Series, x: Array, y: Array) -> str:
    colour = tone(s.tone)
    there = np.isfinite(x) & np.isfinite(y)
    parts = []
    if s.look != "dots":
        path, pen = [], False
        for u, v, seen in zip(x.tolist(), y.tolist(), there.tolist(), strict=True):
            if seen:
                path.append(f"{'L' if pen else 'M'}{u:.1f} {v:.1f}")
            pen = seen
        dash = ' stroke-dasharray="5 4"' if s.dashed else ""
        width, opacity = ("1", "0.45") if s.look == "thin" else ("2", "1")
        parts.append(
            f'<path d="{"".join(path)}" fill="none" style="stroke:{colour}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}" stroke-linejoin="round"{dash}/>'
        )
    if s.look in ("dots", "both"):
        # A line of no length with round ends is a dot: one element for all of them.
        dots = "".join(
            f"M{u:.1f} {v:.1f}h0" for u, v in zip(x[there].tolist(), y[there].tolist(), strict=True)
        )
        width, opacity = ("5", "0.5") if s.role == "raw" else ("8", "1")
        parts.append(
            f'<path d="{dots}" fill="none" style="stroke:{colour}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}" stroke-linecap="round"/>'
        )
    return "".join(parts)


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = "") -> str:
    style = f'style="stroke:{tone(colour)}" stroke-width="1.5"' if colour else 'stroke="currentColor"'
    faint = "" if colour else ' stroke-opacity="0.13"'
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" {style}{faint}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "") -> str:
    style = f' style="fill:{tone(colour)}" font-weight="600"' if colour else ' fill-opacity="0.8"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def thin(x: Sequence[float] | Array, y: Sequence[float] | Array, limit: int = POINTS) -> tuple[Array, Array]:
    """At most `limit` points: of each stretch the least and the largest, so that no spike is lost."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    if len(xs) <= limit:
        return xs, ys
    keep = {0, len(xs) - 1}
    for part in np.array_split(np.arange(len(xs)), max(limit // 2 - 1, 1)):
        finite = part[np.isfinite(ys[part])]
        if finite.size:
            keep |= {int(finite[ys[finite].argmin()]), int(finite[ys[finite].argmax()])}
        else:
            keep.add(int(part[0]))
    chosen = sorted(keep)
    return xs[chosen], ys[chosen]


def smoothed(y: Sequence[float] | Array) -> Array:
    """A run's losses under a centred Gaussian of a hundredth of its length; a gap where none is finite."""
    values = np.asarray(y, float)
    width = max(len(values) / 100, 1.0)
    reach = np.arange(-math.ceil(3 * width), math.ceil(3 * width) + 1)
    kernel = np.exp(-((reach / width) ** 2) / 2)
    there = np.isfinite(values) & (np.abs(values) < 1e300)
    half = len(reach) // 2
    part = slice(half, half + len(values))
    weight = np.convolve(there.astype(float), kernel)[part]
    total = np.convolve(np.where(there, values, 0.0), kernel)[part]
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _domain(data: Iterable[Sequence[float] | Array], log: bool, margin: float) -> tuple[float, float]:
    parts = [np.asarray(part, float) for part in data]
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[np.isfinite(values) & (np.abs(values) < 1e300)]
    if log:
        values = np.log10(values[values > 0])
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return low - margin * (high - low), high + margin * (high - low)


def _wide(low: float, high: float) -> tuple[float, float]:
    """The same stretch, or one around it where it is a point."""
    if high - low > 1e-9 * max(abs(low), abs(high), 1e-300):
        return low, high
    half = 0.5 * (abs(low) or 1.0)
    return low - half, low + half


def ticks(low: float, high: float, log: bool, zero: float | None = None) -> list[tuple[float, str]]:
    """(value, label) of an axis' lines from `low` to `high`, in decades where it is logarithmic."""
    if not log:
        step = _nice((high - low) / 5)
        first = math.ceil(low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
        digits = max(-math.floor(math.log10(step) + 1e-9), 0)
        plain = max(abs(low), abs(high)) < 1e6 and digits <= 6
        return [(v, f"{v:,.{digits}f}" if plain else number(v)) for v in values]
    if high - low < 1.7:
        digits_ = (1, 2, 3, 5) if high - low < 0.9 else (1, 2, 5)
        values = [d * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for d in digits_]
    else:
        every = math.ceil((high - low) / 9)
        values = [10.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, every)]
    values = [v for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]
    if zero is not None:
        values = [v for v in values if v > zero * 3]
    far = high - low >= 1.7 and (low < -3 or high > 5)
    found = [(v, decade(round(math.log10(v))) if far else number(v)) for v in values]
    return [(zero, "0"), *found] if zero is not None else found


def _nice(step: float) -> float:
    unit: float = 10.0 ** math.floor(math.log10(step))
    return unit * next(n for n in (1, 2, 5, 10) if n * unit >= step * (1 - 1e-9))
