"""Figures: the article's accounting and our runs over Smith's own logs, and the comparison on a CPU."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import onecycle as oc
from benchmarks.headline import accounting
from benchmarks.headline.experiments import PUBLISHED, SMALL, SMITH, smith
from benchmarks.headline.runs import RESULTS, Results, Row, spread
from benchmarks.regret.data import ROOT
from onecycle._files import write_file

IMAGES = ROOT / "docs" / "images"
SMITHS, ARTICLE = "0.45", "tab:red"


def draw(results: Path = RESULTS, images: Path = IMAGES) -> list[Path]:
    """Draw every figure that there are results for; the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    drawn = []
    for name, function in FIGURES.items():
        figure = plt.figure(figsize=(10, 4), layout="constrained")
        if function(figure, results):
            data = io.BytesIO()
            figure.savefig(data, dpi=110, format="png")
            drawn.append(images / f"headline-{name}.png")
            write_file(drawn[-1], data.getvalue())
        plt.close(figure)
    return drawn


def log(name: str) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of one of Smith's logs, the rows with a test accuracy alone."""
    with smith(name).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["test_accuracy"]]
    names = ("iteration", "lr", "test_loss", "test_accuracy")
    return {column: np.array([float(row[column] or "nan") for row in rows]) for column in names}


def _over_smith(figure: Any, results: Path) -> bool:
    """Left: the article's run, printed and true, over Smith's. Right: super-convergence."""
    left, right = figure.subplots(1, 2)
    his = log("1cycle")
    per_epoch = his["iteration"].max() / 95
    left.plot(his["iteration"] / per_epoch, 100 * his["test_accuracy"], color=SMITHS, label="Smith's 1cycle")
    for number, (name, lines) in enumerate(accounting.article().items()):
        epochs = np.arange(1, len(lines) + 1)
        true = [epoch.test / 100 for epoch in accounting.counts(lines)]
        style: dict[str, Any] = {"color": ARTICLE, "lw": 1, "ls": ("-", "--")[number]}
        left.plot(epochs, true, **style, label=f"article, true ({name.rpartition(' ')[2]})")
        left.plot(epochs, [line.val for line in lines], **style, alpha=0.4, label="article, as printed")
    _ours(left, ("article", "recipe"), results, in_epochs=True)
    left.set(xlabel="epochs", ylabel="test accuracy, %", ylim=(60, 96))
    for name, line in (("superconvergence", "-"), ("piecewise", ":")):
        his = log(name)
        right.plot(
            his["iteration"] + 1, 100 * his["test_accuracy"], line, color=SMITHS, label=f"Smith's {name}"
        )
    _ours(right, ("superconvergence",), results)
    right.set(xlabel="steps", xscale="log", xlim=(100, None), ylim=(30, 96))
    for ax in (left, right):
        ax.legend(fontsize=7)
        ax.grid(alpha=0.3)
    return True


def _ours(ax: Any, experiments: tuple[str, ...], results: Path, in_epochs: bool = False) -> None:
    for experiment in experiments:
        for row in Results(experiment, results).rows:
            if row["seed"] == 0 and row["looks"]:
                steps = np.array([look["step"] for look in row["looks"]])
                x = np.arange(1, len(steps) + 1) if in_epochs else steps
                ax.plot(x, [100 * look["accuracy"] for look in row["looks"]], lw=1, label=row["label"])


def _range(figure: Any, results: Path) -> bool:
    """Test loss over the rate in Smith's range tests, and ours where done, with what we read off each."""
    ax = figure.subplots()
    curves = {f"Smith's, {name}": oc.Curve.from_csv(smith(name)) for name in SMITH if "range" in name}
    facts = Results("range", results).facts
    curves |= {f"ours, {name}": oc.Curve.from_json(json.dumps(curve)) for name, curve in facts.items()}
    for name, curve in curves.items():
        shown = curve.value > 0
        (line,) = ax.plot(curve.value[shown], curve.loss[shown], lw=1, label=name)
        with suppress(oc.Inconclusive):
            ax.axvline(curve.suggest().max_lr, color=line.get_color(), ls=":")
    ax.set(xlabel="learning rate (dotted: the peak that we read off)", ylabel="loss")
    ax.set(xscale="log", yscale="log")
    ax.set_xlim(1e-3, None)
    ax.set_ylim(0.02, 20)
    ax.legend(fontsize=7)
    return True


def _order(figure: Any, results: Path) -> bool:
    """Final test accuracy of each way to train, a dot a seed."""
    rows = [row for row in Results("order", results).rows if not row["label"].endswith("grid")]
    labels = sorted(dict.fromkeys(row["label"] for row in rows), key=lambda label: _mean(rows, label))
    if rows:
        _dots(figure.subplots(), rows, labels)
    return bool(rows)


def _small(figure: Any, results: Path) -> bool:
    """The same of each small form that is done."""
    done = {name: rows for name in SMALL if (rows := Results(f"{name}-small", results).rows)}
    if done:
        for ax, (name, rows) in zip(
            figure.subplots(1, len(done), squeeze=False)[0], done.items(), strict=True
        ):
            _dots(ax, rows, list(dict.fromkeys(row["label"] for row in rows)))
            ax.set_title(name, fontsize="medium")
    return bool(done)


def _dots(ax: Any, rows: list[Row], labels: list[str]) -> None:
    for place, label in enumerate(labels):
        values = [100 * row["accuracy"] for row in rows if row["label"] == label]
        colour = "tab:blue" if "1cycle" in label else SMITHS
        ax.plot(values, np.full(len(values), place), "o", color=colour, ms=5)
        ax.plot([_mean(rows, label)], [place], "|", color=colour, ms=16)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xlabel("test accuracy, % (bar: mean)")
    ax.grid(axis="x", alpha=0.3)


def _mean(rows: list[Row], label: str) -> float:
    return spread([100 * row["accuracy"] for row in rows if row["label"] == label])[0]


def _peak(figure: Any, results: Path) -> bool:
    """Range tests of the quick net, the ends of pilots at their peaks, what was read off, and 0.4."""
    rows = Results("peak", results).rows
    if rows:
        ax = figure.subplots()
        for row in rows:
            found, curve = row["found"], oc.Curve.from_json(json.dumps(row["found"]["curve"]))
            label = f"width {row['options'].get('width', 64)}: {found['max_lr']:.2g} by {found['rule']}"
            (line,) = ax.plot(curve.value, curve.loss, lw=1, label=label)
            ax.axvline(found["max_lr"], color=line.get_color(), ls=":")
            ax.plot(
                [p[0] for p in found["pilots"]], [p[2] for p in found["pilots"]], "o", color=line.get_color()
            )
        ax.axvline(PUBLISHED, color="black", lw=1, label="published: 0.4")
        ax.set(xlabel="learning rate (dots: pilots, at their peaks)", ylabel="loss", xscale="log")
        ax.set_ylim(1, 3)
        ax.legend(fontsize=7)
    return bool(rows)


FIGURES = {"smith": _over_smith, "range": _range, "order": _order, "small": _small, "peak": _peak}
