"""Figures. Nothing is computed here: each function draws what the objects themselves say."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onecycle._anchors import anchors
from onecycle._curve import Curve, StrPath
from onecycle._errors import Inconclusive
from onecycle._files import write_file
from onecycle._policy import Policy
from onecycle._schedules import Cycle
from onecycle._smooth import LARGEST, finite_or_lost
from onecycle._suggestion import Suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {"lr": "learning rate", "weight_decay": "weight decay"}
_LOSS, _VAL, _SUGGESTED, _DIVERGED = "#1f4e79", "#c46210", "#2e7d32", "#b3261e"


def plot_curve(
    curve: Curve,
    path: StrPath | None = None,
    ax: Axes | None = None,
    suggestion: Suggestion | Inconclusive | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the loss over the swept value: points, smoothed line, suggestion with interval, divergence.

    Args:
        curve: what to draw.
        path: where to save the figure as well; the suffix gives the format, PNG without one.
        ax: axes to draw into; a figure of its own where left out.
        suggestion: what to mark; the default rule's suggestion, or its refusal, where left out.
        title: above the axes; nothing where left out.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: matplotlib knows no format of that suffix.
    """
    if ax is None:
        ax = new_axes()
    if suggestion is None:
        try:
            suggestion = curve.suggest()
        except Inconclusive as refusal:
            suggestion = refusal

    shown = curve.value > 0
    value, loss = curve.value[shown], finite_or_lost(curve.loss[shown])
    ax.plot(value, loss, ".", color=_LOSS, alpha=0.4, markersize=5, markeredgewidth=0, label="loss per step")
    if curve.val_loss is not None:
        measured = shown & (np.abs(curve.val_loss) <= LARGEST)
        ax.plot(
            curve.value[measured],
            curve.val_loss[measured],
            "o-",
            color=_VAL,
            alpha=0.7,
            linewidth=1,
            markersize=3,
            label="validation loss",
        )
    ax.plot(*curve.smooth(), "-", color=_LOSS, linewidth=2, label="smoothed loss")

    if value.size:
        # Ratios count for rates; momentum lives within one octave.
        if value.max() > 3 * value.min():
            ax.set_xscale("log")
        if value.max() > value.min():
            ax.set_xlim(value.min(), value.max())
    if (limits := loss_limits(curve)) is not None:
        ax.set_ylim(*limits)
    _mark_divergence(ax, curve)
    if isinstance(suggestion, Suggestion):
        _mark_suggestion(ax, suggestion)
    else:
        ax.text(
            0.5, 1.02, f"No suggestion: {suggestion.reason}", transform=ax.transAxes,
            ha="center", va="bottom", color=_DIVERGED, fontsize="small", wrap=True,
        )  # fmt: skip
    ax.set_xlabel(_LABELS.get(curve.hyper, curve.hyper))
    ax.set_ylabel("loss")
    ax.grid(alpha=0.2)
    ax.legend(loc="best", fontsize="small", framealpha=0.85)
    if title is not None:
        ax.set_title(title)
    if path is not None:
        save(ax, path)
    return ax


def loss_limits(curve: Curve) -> tuple[float, float] | None:
    """The losses to show: the fall fills the picture, an exploding tail leaves it; None: none is finite."""
    seen = anchors(curve)
    finite = curve.loss[np.abs(curve.loss) <= LARGEST]
    if seen.minimum is not None:
        drop = seen.start - seen.best
        return seen.best - 0.15 * drop - 2 * seen.noise, seen.start + 0.3 * drop + 2 * seen.noise
    if finite.size:
        low, high = (float(q) for q in np.quantile(finite, (0.02, 0.98)))
        margin = 0.15 * (high - low) or 0.05 * abs(high) or 1.0
        return low - margin, high + margin
    return None


def _mark_divergence(ax: Axes, curve: Curve) -> None:
    divergence = anchors(curve).divergence
    if divergence is not None:
        last = float(curve.value.max())
        right = last if divergence < last else divergence * 1.1
        ax.axvspan(
            divergence,
            right,
            color=_DIVERGED,
            alpha=0.12,
            linewidth=0,
            label=f"diverged from {divergence:.3g}",
        )
        ax.set_xlim(right=right)


def _mark_suggestion(ax: Axes, suggestion: Suggestion) -> None:
    name = suggestion.hyper if suggestion.hyper != "lr" or suggestion.use == "constant" else "max_lr"
    if suggestion.base_lr is not None:
        ax.axvline(
            suggestion.base_lr, color=_SUGGESTED, linestyle="--", linewidth=1.5,
            label=f"base_lr {suggestion.base_lr:.3g}",
        )  # fmt: skip
    ax.axvline(suggestion.value, color=_SUGGESTED, linewidth=1.5, label=f"{name} {suggestion.value:.3g}")
    if suggestion.low < suggestion.high:
        ax.axvspan(
            suggestion.low, suggestion.high, color=_SUGGESTED, alpha=0.15, linewidth=0,
            label=f"{suggestion.low:.3g} to {suggestion.high:.3g}",
        )  # fmt: skip


def plot_policy(policy: Policy, path: StrPath | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the learning rate over the steps, and momentum and weight decay on axes to the right.

    Args:
        policy: what to draw; one without end is drawn over its first two cycles.
        path: where to save the figure as well; the suffix gives the format, PNG without one.
        ax: axes to draw into; a figure of its own where left out.

    Returns:
        The axes of the first schedule.

    Raises:
        ImportError: matplotlib is not installed.
    """
    ax = new_axes() if ax is None else ax
    length = drawn_length(policy)
    steps = np.unique(np.linspace(0, length - 1, 2000).round())
    styles = {"lr": (_LOSS, "-"), "momentum": (_VAL, "--"), "weight_decay": (_SUGGESTED, ":")}
    lines = []
    marker = "o" if len(steps) == 1 else ""  # one point makes no line
    for i, (name, values) in enumerate(policy(steps).items()):
        side = ax if i == 0 else ax.twinx()
        if i > 1:
            side.spines["right"].set_position(("outward", 55))
        color, style = styles[name]
        label = _LABELS.get(name, name)
        lines += side.plot(steps, values, style, marker=marker, color=color, linewidth=2, label=label)
        side.set_ylabel(label, color=color)
        side.tick_params(axis="y", colors=color)
        if name != "momentum":
            side.set_ylim(bottom=0)
    ax.set_xlabel("step (optimizer updates)")
    ax.set_xlim(0, max(length - 1, 1))
    ax.grid(alpha=0.2)
    ax.legend(handles=lines, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    if path is not None:
        save(ax, path)
    return ax


def drawn_length(policy: Policy) -> int:
    """The updates to draw: all of a policy, or its first two cycles where it has no end."""
    if policy.total_steps:
        return policy.total_steps
    cycles = [s for s in (policy.lr, policy.momentum, policy.weight_decay) if isinstance(s, Cycle)]
    return int(max((2 * (s.up + s.down) for s in cycles), default=1000)) + 1


def plot_lines(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: StrPath | None = None,
    *,
    ax: Axes | None = None,
    xlabel: str = "step (optimizer updates)",
    ylabel: str = "",
) -> Axes:
    """Draw several runs' values, such as validation accuracy, over their steps.

    Args:
        lines: (steps, values) by the run's name.
        path: where to save the figure as well; the suffix gives the format, PNG without one.
        ax: axes to draw into; a figure of its own where left out.
        xlabel: of the steps.
        ylabel: of the values.

    Raises:
        ImportError: matplotlib is not installed.
    """
    ax = new_axes() if ax is None else ax
    for (name, (x, y)), color in zip(
        lines.items(), cycle((_LOSS, _VAL, _SUGGESTED, _DIVERGED)), strict=False
    ):
        ax.plot(x, y, "o-", color=color, label=f"{name}: {y[-1]:.3f}" if y else name)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.2)
    ax.legend(loc="best", fontsize="small", framealpha=0.85)
    if path is not None:
        save(ax, path)
    return ax


def new_axes() -> Axes:
    """Axes in a figure of their own, which needs neither a display nor pyplot's global state.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'onecycle[plot]'") from None
    return Figure(figsize=(7, 4.5), layout="constrained").subplots()


def save(ax: Axes, path: StrPath) -> None:
    """Write the figure of these axes, whole or not at all."""
    buffer = io.BytesIO()
    ax.figure.canvas.print_figure(buffer, format=Path(path).suffix[1:] or "png", dpi=150)
    write_file(path, buffer.getvalue())
