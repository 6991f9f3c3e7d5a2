"""The figure: regret over the rate for each task, and where the rules' suggestions fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.regret.measure import DIVERGED
from benchmarks.regret.rules import Case, Reading

FINE = 0.1  # regret below which the scale is linear


def draw(cases: Sequence[Case], readings: Mapping[str, Mapping[str, Sequence[Reading]]], path: Path) -> None:
    """Left: the regret of each rule, a dot a task. Right: each task's oracle and the first rule's rates."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = 4
    lines = -(-len(cases) // columns)
    figure = plt.figure(figsize=(16, max(2.0 * lines, 4)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 2])[0]
    _by_rule(left.subplots(), readings)
    axes = right.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    first = next(iter(readings))
    for ax, case in zip(axes, cases, strict=False):
        oracle = case.oracle
        ax.semilogx(oracle.rates, oracle.regrets(oracle.rates), "k.-", lw=1, ms=3)
        ax.axvspan(*oracle.plateau(), color="tab:green", alpha=0.2, lw=0)
        for reading in readings[first][case.task.name]:
            ax.axvline(reading.rate, color="tab:red" if reading.refused else "tab:blue", alpha=0.3, lw=1)
        ax.axvline(case.task.usual_lr, color="grey", ls=":", lw=1)
        ax.set_title(case.task.name, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.set_yscale("symlog", linthresh=FINE)
        ax.set_ylim(-FINE / 5, DIVERGED)
    for ax in axes[len(cases) :]:
        ax.set_visible(False)
    right.suptitle(
        f"regret over maximum rate; blue: {first}, red: its refusals, dotted: usual rate", fontsize=9
    )
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=100, format="png")
    plt.close(figure)
    temporary.replace(path)


def _by_rule(ax, readings: Mapping[str, Mapping[str, Sequence[Reading]]]) -> None:  # type: ignore[no-untyped-def]
    means = {
        rule: [float(np.mean([reading.regret for reading in found])) for found in by_task.values()]
        for rule, by_task in readings.items()
    }
    order = sorted(means, key=lambda rule: -float(np.mean(means[rule])))
    for place, rule in enumerate(order):
        values = means[rule]
        ax.plot(values, np.full(len(values), place), "o", ms=4, alpha=0.5, color="tab:blue")
        ax.plot([np.mean(values)], [place], "k|", ms=14)
    ax.set_xscale("symlog", linthresh=FINE)
    ax.axvline(0.05, color="tab:green", lw=1)
    ax.set_yticks(range(len(order)), order)
    ax.set_xlabel("regret, mean over seeds: a dot is a task, the bar their mean")
