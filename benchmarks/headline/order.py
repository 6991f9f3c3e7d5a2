"""On a CPU: 1cycle at the rate that was found, against what else one might do for as many epochs.

A residual net of eight layers, 6,400 images to train on for five epochs of 100 updates, 5,000 held out
to choose rates by, and the 10,000 of the test set for what is reported.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onecycle as oc
from benchmarks.headline.runs import FOUND, HELD_OUT, RESULTS, Results, Row, Run, find, peak, spread

GRID = (0.03, 0.1, 0.3)  # of the tuned rates; gone beyond by a factor of 3 where an end is best
TUNED = ("constant", "step", "cosine")  # kinds of schedule
PEERS = ("valley", "torch-lr-finder", "lightning", "ignite")  # what each tool suggests if not asked otherwise
SAME = 1.1  # rates closer than this factor are tried once


@dataclass(frozen=True)
class Setting:
    """What all runs have in common."""

    blocks: int = 1
    images: int = 6_400
    batch_size: int = 64
    weight_decay: float = 5e-4
    epochs: int = 5
    budget: float = 0.6  # of the length, for finding the rate: the sweep and four pilots
    grid: Sequence[float] = GRID
    held_out: int = HELD_OUT
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, label: str, seed: int, **schedule: Any) -> Run:
        """A run with a schedule."""
        return Run(
            label,
            "resnet",
            seed,
            schedule,
            epochs=self.epochs,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            budget=self.budget,
            options={"blocks": self.blocks, "images": self.images, **self.options},
        )


def order(
    seeds: int = 3,
    setting: Setting | None = None,
    folder: Path = RESULTS,
    progress: bool = True,
) -> str:
    """Find, tune, train; the table. Goes on where an earlier call was interrupted."""
    setting = setting or Setting()
    results = Results("order", folder)
    wanted = json.loads(json.dumps(asdict(setting)))
    if results.facts.setdefault("setting", wanted) != wanted:
        raise ValueError(f"{results.path} holds runs of another setting: move it away")
    results.facts["seconds_before"] = results.facts.get("seconds", 0.0)
    begin = time.perf_counter()

    def do(run: Run, *, held_out: bool = False) -> Row:
        row = results.do(run, held_out=held_out, every_epoch=False, progress=progress)
        results.facts["seconds"] = results.facts["seconds_before"] + time.perf_counter() - begin
        results.save()
        return row

    found = _find(setting, results)
    for seed in range(seeds):
        do(setting.run("1cycle, found", seed, kind="one_cycle", max_lr=found["max_lr"]))
    for kind in TUNED:
        best = _tuned(kind, setting, do, results)
        for seed in range(1, seeds):
            do(setting.run(f"{kind}, tuned", seed, kind=kind, lr=best))
    for rates, rules in _peers(found):
        for seed in range(seeds):
            do(setting.run(f"cosine, {', '.join(rules)}", seed, kind="cosine", lr=rates))
    return report(folder)


def report(folder: Path = RESULTS) -> str:
    """The table of what `order` has recorded, and for each rival the difference to ours."""
    results = Results("order", folder)
    ours = _accuracies(results.rows, "1cycle, found")
    lines = [
        "| run | rate | n | test accuracy, % | 1cycle is ahead by | pooled spread |",
        "|---|---|---|---|---|---|",
    ]
    for label in dict.fromkeys(row["label"] for row in results.rows if not row["label"].endswith("grid")):
        rows = [row for row in results.rows if row["label"] == label]
        theirs = _accuracies(results.rows, label)
        (mean, deviation), (best, own) = spread(theirs), spread(ours)
        ahead = "" if label == "1cycle, found" else f"{best - mean:+.2f}"
        pooled = "" if not ahead else f"{math.sqrt((own**2 + deviation**2) / 2):.2f}"
        accuracy = f"{mean:.2f} ± {deviation:.2f}"
        lines.append(f"| {label} | {peak(rows[0]):.3g} | {len(theirs)} | {accuracy} | {ahead} | {pooled} |")
    cost = results.facts["found"]["cost"] / results.rows[0]["steps_done"]
    searched = sum(row["label"].endswith("grid") for row in results.rows)
    lines += [
        "",
        f"Finding our rate took {cost:.2f} of a run; tuning the rates of {', '.join(TUNED)} took {searched}.",
        f"All of it took {results.facts['seconds'] / 60:.1f} minutes.",
    ]
    return "\n".join(lines)


def _accuracies(rows: Sequence[Row], label: str) -> list[float]:
    return [100 * row["accuracy"] for row in rows if row["label"] == label]


def _find(setting: Setting, results: Results) -> Row:
    if "found" not in results.facts:
        run = setting.run("1cycle, found", 0, kind="one_cycle", max_lr=FOUND)
        results.facts["found"] = find(run, run.length(run.build()), setting.held_out)
        results.save()
    return results.facts["found"]  # type: ignore[no-any-return]


def _tuned(kind: str, setting: Setting, do: Any, results: Results) -> float:
    """The rate that does best on the held-out images; where it is the grid's last, the grid goes on."""
    scores: dict[float, float] = {}
    waiting = list(setting.grid)
    while waiting:
        for lr in waiting:
            row = do(setting.run(f"{kind}, grid", 0, kind=kind, lr=lr), held_out=True)
            scores[lr] = row["held_out"]
        best = max(scores, key=scores.__getitem__)
        beyond = {min(scores): best / 3, max(scores): best * 3}.get(best)
        waiting = [] if beyond is None or len(scores) > 2 * len(setting.grid) else [float(f"{beyond:.2g}")]
    tuned = setting.run(f"{kind}, tuned", 0, kind=kind, lr=best)
    if results.of(tuned) is None:  # the same run by another name
        tried = results.of(setting.run(f"{kind}, grid", 0, kind=kind, lr=best))
        assert tried is not None
        results.rows.append({**tried, "label": tuned.label})
    return best


def _peers(found: Row) -> list[tuple[float, list[str]]]:
    """Rates that the other tools' rules read off our sweep, with the names of the rules that agree."""
    curve = oc.Curve.from_json(json.dumps(found["curve"]))
    rates: list[tuple[float, list[str]]] = []
    for rule in PEERS:
        try:
            value = curve.suggest(rule).value
        except oc.Inconclusive:
            continue
        for rate, rules in rates:
            if max(rate / value, value / rate) < SAME:
                rules.append(rule)
                break
        else:
            rates.append((value, [rule]))
    return rates
