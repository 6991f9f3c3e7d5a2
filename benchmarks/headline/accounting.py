"""What the article's printed accuracies are: its notebook never sets its counts back to 0.

`accuracy()` of `CLR.ipynb` (github.com/nachiket273/One_Cycle_Policy) adds each batch, of training and of test
images alike, to the counts `correct` and `total` of the whole run, and what is printed is their ratio.
`article.csv` holds what cells 47 and 56 of the notebook printed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

TRAIN, TEST = 50_000, 10_000
PRINTED = Path(__file__).with_name("article.csv")


class Epoch(NamedTuple):
    """Right answers of one epoch: while it trained, and on the test set after it."""

    train: int
    test: int


class Percent(NamedTuple):
    """An epoch's two accuracies as the notebook prints them."""

    train: float
    val: float


def printed(epochs: Iterable[Epoch], train: int = TRAIN, test: int = TEST) -> list[Percent]:
    """What the notebook would print for these counts."""
    correct = total = 0
    lines = []
    for epoch in epochs:
        correct, total = correct + epoch.train, total + train
        trained = 100 * correct / total
        correct, total = correct + epoch.test, total + test
        lines.append(Percent(trained, 100 * correct / total))
    return lines


def counts(lines: Sequence[Percent], train: int = TRAIN, test: int = TEST) -> list[Epoch]:
    """The counts behind printed lines: they are whole numbers, which the eight decimals tell exactly.

    Raises:
        ValueError: a line is of no whole number, so it was not printed by this accounting.
    """
    before, epochs = 0, []
    for number, line in enumerate(lines):
        total = number * (train + test) + train
        trained, tested = _whole(line.train, total), _whole(line.val, total + test)
        epochs.append(Epoch(trained - before, tested - trained))
        before = tested
    return epochs


def _whole(percent: float, total: int) -> int:
    count = round(percent * total / 100)
    if abs(percent * total / 100 - count) > 0.01:
        raise ValueError(f"{percent} % of {total} is {percent * total / 100:.4f} answers, no whole number")
    return count


def article() -> dict[str, list[Percent]]:
    """The printed lines of the article's two 95-epoch runs, by their setting."""
    runs: dict[str, list[Percent]] = {}
    with PRINTED.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            runs.setdefault(row["run"], []).append(
                Percent(float(row["train_accuracy"]), float(row["val_accuracy"]))
            )
    return runs


def report() -> str:
    """A table in Markdown of the article's runs as printed, and as they were."""
    lines = [
        "| run | printed after the last epoch | true test accuracy | best of an epoch | true, in training |",
        "|---|---|---|---|---|",
    ]
    for name, run in article().items():
        epochs = counts(run)
        tests = [100 * epoch.test / TEST for epoch in epochs]
        trained = 100 * epochs[-1].train / TRAIN
        lines.append(
            f"| {name} | {run[-1].val:.2f} % | **{tests[-1]:.2f} %** | {max(tests):.2f} % | {trained:.2f} % |"
        )
    return "\n".join(lines)
