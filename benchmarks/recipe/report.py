"""The table and the figure: final loss of each method's recipe, over what it cost."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.regret import files
from onecycle._files import decode, encode, write_file

Rows = dict[tuple[str, float], dict[str, list[float]]]  # losses by method and cost, by task
BEST = ("tpe", 20.0)  # whose best run's own loss all are measured by


def report(results: Path) -> str:
    """Judge all that was run, write JSON and a figure, and return the table."""
    rows, best = _load(results)
    if not best:
        raise FileNotFoundError(f"{results} has no runs of TPE yet: python -m benchmarks.recipe run")
    reference = {task: statistics.fmean(losses) for task, losses in best.items()}
    table = [_row(key, by_task, reference) for key, by_task in rows.items() if set(by_task) >= set(reference)]
    table.sort(key=lambda row: row["ratio"])
    document = {
        "format": "onecycle.recipe.report",
        "version": 1,
        "made_with": [files.made_with()],
        "tasks": sorted(reference),
        "rows": table,
    }
    write_file(results / "report.json", json.dumps(encode(document), indent=1) + "\n")
    _draw(table, results / "report.png")
    lines = [
        f"{len(reference)} tasks; loss with fresh seeds, as a ratio to the lowest that TPE saw in 20 runs,",
        "geometric mean over the tasks",
        "",
        f"{'method':18}{'cost':>7}{'mean ratio':>12}{'worst':>9}{'no worse':>10}{'spread':>9}",
    ]
    lines += [
        f"{row['method']:18}{row['cost']:>7.2g}{row['ratio']:>12.3f}{row['worst']:>9.2f}"
        f"{row['no_worse']:>7}/{len(reference)}{row['spread']:>9.3f}"
        for row in table
    ]
    return "\n".join(lines)


def _load(results: Path) -> tuple[Rows, dict[str, list[float]]]:
    rows: Rows = defaultdict(lambda: defaultdict(list))
    best: dict[str, list[float]] = defaultdict(list)
    for path in sorted(results.glob("*.json")):
        document = decode(json.loads(path.read_text(encoding="utf-8")))
        if document.get("format") != "onecycle.regret.recipe":
            continue
        for row in document["rows"]:
            # Sweeps end at different steps: their cost is one method's all the same.
            cost = row["cost"] if row["method"] in ("tpe", "tune", "default") else 0.1
            rows[row["method"], cost][document["task"]].append(row["loss"])
            if (row["method"], row["cost"]) == BEST:
                best[document["task"]].append(row["selected"])
    return rows, best


def _row(
    key: tuple[str, float], by_task: dict[str, list[float]], reference: dict[str, float]
) -> dict[str, Any]:
    ratios = {}
    for task, best in reference.items():
        # A lost run counts as ten times the best, as in the regret.
        losses = [min(loss, 10 * best) for loss in by_task[task]]
        ratios[task] = statistics.fmean(losses) / best
    spreads = [
        statistics.stdev(math.log(min(loss, 10 * reference[task])) for loss in by_task[task])
        for task in reference
        if len(by_task[task]) > 1
    ]
    return {
        "method": key[0],
        "cost": key[1],
        "ratio": statistics.geometric_mean(ratios.values()),
        "worst": max(ratios.values()),
        "no_worse": sum(ratio <= 1.0 for ratio in ratios.values()),
        "spread": statistics.fmean(spreads) if spreads else math.nan,
        "ratios": ratios,
    }


def _draw(table: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, marker in (("tune", "o"), ("tpe", "s")):
        points = sorted((row["cost"], row["ratio"]) for row in table if row["method"] == name)
        ax.plot(
            *zip(*points, strict=True),
            marker=marker,
            label={"tune": "onecycle tune", "tpe": "Optuna TPE"}[name],
        )
    others = [row for row in table if row["method"] not in ("tune", "tpe")]
    for row in others:
        at = max(row["cost"], 0.05)
        ax.plot(at, row["ratio"], "k.", ms=5)
        ax.annotate(row["method"], (at, row["ratio"]), (6, -3), textcoords="offset points", fontsize=7)
    ax.axhline(1, color="grey", lw=0.8, ls=":")
    ax.set(xscale="log", yscale="log", xlabel="cost, full trainings", ylabel="final loss / best of 20 by TPE")
    ax.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)
