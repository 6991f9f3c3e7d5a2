"""How often intervals hold the oracle's best rate, against how often they claim to.

An interval of any claim is made as the library's own was: a suggestion lies off the best rate by some
factor, and the interval spans the factors of the middle share of sweeps that is claimed. The factors are
taken from all tasks but one, and tried on that one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.regret import find
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import Floats
from benchmarks.regret.rules import DEFAULT, Reading, judge, load, named, searched
from benchmarks.regret.tasks import Split, select

CLAIMS = np.arange(0.1, 1.0, 0.1)


def held(errors: Mapping[str, Floats], claim: float) -> float:
    """Share of the left-out sweeps whose interval holds the best rate; every task has the same weight."""
    shares = []
    for task, mine in errors.items():
        rest = np.concatenate([values for name, values in errors.items() if name != task])
        low, high = np.quantile(rest, [(1 - claim) / 2, (1 + claim) / 2])
        shares.append(float(((low <= mine) & (mine <= high)).mean()))
    return statistics.fmean(shares)


def report(split: Split = "dev", *, results: Path = RESULTS, figure: Path | None = None) -> str:
    """Draw the plot, and return the table behind it."""
    cases = [case for case in (load(task, results=results) for task in select(split=split)) if case]
    ways: dict[str, dict[str, Sequence[Reading]]] = {
        "range test": {case.task.name: judge(named(DEFAULT), case) for case in cases},
        f"find_lr({find.BUDGET:g})": {case.task.name: searched(case, find.BUDGET, results) for case in cases},
    }
    best = {case.task.name: case.oracle.best_rate for case in cases}
    lines = [f"{'claimed':20}" + "".join(f"{claim:7.0%}" for claim in CLAIMS) + "   own interval"]
    curves: dict[str, list[float]] = {}
    own: dict[str, float] = {}
    for name, by_task in ways.items():
        told = {task: [r for r in readings if r.refused is None] for task, readings in by_task.items()}
        errors = {task: np.log10([r.rate / best[task] for r in rs]) for task, rs in told.items() if rs}
        if len(errors) < 3:
            continue
        curves[name] = [held(errors, claim) for claim in CLAIMS]
        own[name] = statistics.fmean(bool(r.held) for rs in told.values() for r in rs)
        lines.append(f"{name:20}" + "".join(f"{v:7.0%}" for v in curves[name]) + f"{own[name]:15.0%}")
    _draw(curves, own, figure or results / f"calibration-{split}.png")
    return "\n".join(lines)


def _draw(curves: Mapping[str, Sequence[float]], own: Mapping[str, float], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
    ax.plot([0, 1], [0, 1], color="grey", lw=1, label="as claimed")
    for (name, shares), color in zip(curves.items(), ("#1f4e79", "#c46210"), strict=False):
        ax.plot(CLAIMS, shares, "o-", color=color, label=f"{name}, a task left out at a time")
        ax.axhline(own[name], color=color, ls=":", lw=1, label=f"{name}, its own interval: {own[name]:.0%}")
    ax.set_xlabel("share of sweeps that the interval claims")
    ax.set_ylabel("share whose interval holds the best rate")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid(alpha=0.2)
    ax.legend(fontsize="small")
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
    temporary.replace(path)
