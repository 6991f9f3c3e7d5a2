"""The reproductions: each is a list of runs, and the full ones want a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onecycle as oc
from benchmarks.headline import accounting
from benchmarks.headline.runs import BUDGET, FOUND, HELD_OUT, RESULTS, Results, Row, Run, find, table
from benchmarks.regret.data import folder

TWO_HALVES = 95  # epochs of the article: 41 up, 41 down, 13 to a tenth of where it began
SMITH = {
    "1cycle": "resnet56-cifar10-1cycle-bs512-95epochs.csv",
    "superconvergence": "resnet56-cifar10-superconvergence-clr0.1-3-10k.csv",
    "piecewise": "resnet56-cifar10-piecewise-lr0.35-80k.csv",
    "range 0-3, 5k": "resnet56-cifar10-lr-range-0-3-5k.csv",
    "range 0-3, 20k": "resnet56-cifar10-lr-range-0-3-20k.csv",
    "range 0-2, 80k": "resnet56-cifar10-lr-range-0-2-80k.csv",
}


def article(seed: int) -> Iterable[Run]:
    """The article's schedule on ResNet-56, as its code trained it, and with crops and flips."""
    schedule = {
        "kind": "one_cycle",
        "max_lr": 0.8,
        "min_lr": 0.08,
        "final_lr": 0.008,
        "tail": 13 / TWO_HALVES,
    }
    for name, augment in (("as it was", False), ("with crop and flip", True)):
        for momentum in (0.9, [0.95, 0.8]):
            given = "0.9" if momentum == 0.9 else "0.95-0.8"
            yield Run(
                f"article, {name}, momentum {given}",
                "resnet56",
                seed,
                {**schedule, "momentum": momentum},
                epochs=TWO_HALVES,
                options={"augment": augment, "shortcut": "conv"},
            )


def superconvergence(seed: int) -> Iterable[Run]:
    """Smith and Topin: 10,000 steps up to a rate of 3 and down, against piecewise constant rates.

    Both with their published rates and with two more; the piecewise one also in as many steps.
    """

    def run(label: str, steps: int, **schedule: Any) -> Run:
        return Run(
            label, "resnet56", seed, schedule, steps=steps, batch_size=1000, options={"shortcut": "conv"}
        )

    for peak in (1.0, 2.0, 3.0):
        yield run(
            f"cycle to {peak:g}, 10,000 steps",
            10_000,
            kind="one_cycle",
            max_lr=peak,
            min_lr=0.1,
            tail=0,
            momentum=0.9,
        )
    for steps in (10_000, 80_000):
        for lr in (0.1, 0.35, 1.0):
            yield run(f"piecewise from {lr:g}, {steps:,} steps", steps, kind="step", lr=lr, at=[5 / 8, 7 / 8])


def momentum(seed: int) -> Iterable[Run]:
    """Smith 2018, table 1, 3-layer net: momenta and a cycle of it, with 1cycle and a constant rate."""
    for value in ([0.95, 0.85], 0.85, 0.9, 0.95, 0.99):
        name = f"{value:g}" if isinstance(value, float) else "0.95-0.85"
        cycle = {"kind": "one_cycle", "max_lr": 0.005, "min_lr": 0.0005, "tail": 3 / 25, "momentum": value}
        yield Run(f"3-layer, 1cycle, momentum {name}", "three_layer", seed, cycle, epochs=25)
    for value in (0.85, 0.9, 0.95):
        constant = {"kind": "constant", "lr": 0.0005, "momentum": value}
        yield Run(f"3-layer, rate 0.0005, momentum {value:g}", "three_layer", seed, constant, epochs=25)


def decay(seed: int) -> Iterable[Run]:
    """Smith 2018, section 4.4: weight decays for the 3-layer net, each with 1cycle."""
    cycle = {"kind": "one_cycle", "max_lr": 0.005, "min_lr": 0.0005, "tail": 3 / 25}
    for value in (1e-2, 3.2e-3, 1e-3, 1e-4, 0.0):
        yield Run(
            f"3-layer, weight decay {value:g}", "three_layer", seed, cycle, epochs=25, weight_decay=value
        )


def batch(seed: int) -> Iterable[Run]:
    """Smith 2018, remark 4: batch sizes at equal compute, as many images each, the rate found for each."""
    for size in (128, 256, 512, 1024):
        yield Run(
            f"batch {size}",
            "resnet56",
            seed,
            {"kind": "one_cycle", "max_lr": FOUND},
            epochs=TWO_HALVES,
            batch_size=size,
        )


def recipe(seed: int) -> Iterable[Run]:
    """Our own: the found rate with stronger regularisation, for 95 epochs and for 25; and the quick net."""
    options = {"label_smoothing": 0.1, "nesterov": True, "cutout": 8}
    for epochs in (TWO_HALVES, 25):
        yield Run(
            f"recipe, {epochs} epochs",
            "resnet56",
            seed,
            {"kind": "one_cycle", "max_lr": FOUND, "form": "to_zero"},
            epochs=epochs,
            weight_decay=5e-4,
            options=options if epochs > 50 else {**options, "cutout": 0, "label_smoothing": 0.0},
        )
    for label, peak in (("found rate", FOUND), ("published rate", 0.4)):
        yield Run(
            f"quick net, {label}",
            "quick",
            seed,
            {"kind": "one_cycle", "max_lr": peak, "form": "to_zero", "momentum": 0.9},
            epochs=24,
            options={"cutout": 8},
        )


Experiment = Callable[[int], Iterable[Run]]
EXPERIMENTS: dict[str, tuple[Experiment, str]] = {
    "article": (article, "the article's run without and with augmentation, and its accounting"),
    "superconvergence": (superconvergence, "a cycle to a rate of 3 against piecewise constant rates"),
    "momentum": (momentum, "momenta of the 3-layer net"),
    "decay": (decay, "weight decays of the 3-layer net"),
    "batch": (batch, "batch sizes at equal compute"),
    "recipe": (recipe, "our own recipe, and the quick net at its found and its published rate"),
}


def _few_images(run: Run) -> Run:
    return replace(run, epochs=5, batch_size=64, options={**run.options, "images": 6400})


def _a_quarter(run: Run) -> Run:
    """ResNet-8 with a quarter of each batch size: as many updates as ResNet-56 in 8 epochs."""
    assert run.batch_size is not None
    size = run.batch_size // 4
    budget = 0.6 * size / 32  # as many updates for each: a hundred updates leave no room for pilots
    few = replace(run, label=f"batch {size}", net="resnet", batch_size=size, epochs=4, budget=budget)
    return replace(few, options={**run.options, "blocks": 1, "images": 6400})


# What a CPU does in some minutes; the others have theirs in `order`.
SMALL: dict[str, Callable[[Run], Run]] = {
    "momentum": _few_images,
    "decay": _few_images,
    "batch": _a_quarter,
}


def record(
    name: str,
    seeds: int,
    *,
    small: bool = False,
    shorten: float = 1.0,
    options: dict[str, Any] | None = None,
    results: Path = RESULTS,
    progress: bool = True,
) -> str:
    """Do an experiment's runs that are not yet done, and give the table of all.

    Args:
        name: a key of `EXPERIMENTS`.
        seeds: of each run, from 0.
        small: in the form for a CPU, a key of `SMALL`, which is kept in a file of its own and looks at the
            test set at the end alone.
        shorten: divides every length.
        options: of the task, for every run.
        results: the folder of the file.
        progress: show the runs while they go on.
    """
    experiment, _ = EXPERIMENTS[name]
    kept = Results(f"{name}-small" if small else name, results)
    for seed in range(seeds):
        for run in experiment(seed):
            form = SMALL[name](run) if small else run
            kept.do(as_planned(form, shorten, options or {}), progress=progress, every_epoch=not small)
    if name == "article":
        return f"{table(kept.rows)}\n\n{as_printed(kept.rows)}"
    return table(kept.rows)


def as_planned(run: Run, shorten: float, options: dict[str, Any]) -> Run:
    """`run` with its length divided by `shorten`, and with more options of the task."""
    steps = None if run.steps is None else max(round(run.steps / shorten), 1)
    return replace(run, epochs=run.epochs / shorten, steps=steps, options={**run.options, **options})


def as_printed(rows: Sequence[Row]) -> str:
    """Our runs' last epoch as the article's notebook would have printed it, beside the truth."""
    lines = ["| run | seed | as the article prints | true |", "|---|---|---|---|"]
    for row in rows:
        looks = [look for look in row["looks"] if look["train_seen"]]
        epochs = [accounting.Epoch(look["train_right"], look["test_right"]) for look in looks]
        if epochs and not row["diverged"]:
            seen = looks[0]["train_seen"], looks[0]["test_seen"]
            val = accounting.printed(epochs, *seen)[-1].val
            lines.append(f"| {row['label']} | {row['seed']} | {val:.2f} % | {100 * row['accuracy']:.2f} % |")
    return "\n".join(lines)


# The range test -------------------------------------------------------------------------------------


def smith(name: str) -> Path:
    """A training log of Smith's, by a key of `SMITH`."""
    return folder() / "smith" / SMITH[name]


def range_tests(
    *,
    steps: int = 5000,
    batch_size: int = 1000,
    evaluations: int = 50,
    net: str = "resnet56",
    options: dict[str, Any] | None = None,
    results: Path = RESULTS,
    progress: bool = True,
) -> str:
    """Linear range test from 0 to 3 as Smith did it, and the usual one; what they say, beside his logs."""
    run = Run("range", net, 0, {}, batch_size=batch_size, options=options or {})
    kept = Results("range", results)
    tests: dict[str, dict[str, Any]] = {
        f"linear, {steps} steps of batch {batch_size}": {
            "start": 0.0,
            "end": 3.0,
            "steps": steps,
            "sweep": "linear",
        },
        f"exponential, batch {batch_size}": {},
    }
    for name, settings in tests.items():
        if name not in kept.facts:
            curve = oc.range_test(run.build(), progress=progress, evaluations=evaluations, **settings)
            kept.facts[name] = json.loads(curve.to_json())
            kept.save()
    return reading(results)


def reading(results: Path = RESULTS) -> str:
    """A table of what this library reads off each range test, ours where they are done, and Smith's."""
    curves = {f"Smith's, {name}": oc.Curve.from_csv(smith(name)) for name in SMITH if "range" in name}
    facts = Results("range", results).facts
    curves |= {f"ours, {name}": oc.Curve.from_json(json.dumps(curve)) for name, curve in facts.items()}
    lines = ["| range test | points | suggested peak | from | to |", "|---|---|---|---|---|"]
    for name, curve in curves.items():
        try:
            found = curve.suggest()
            said = f"{found.max_lr:.3g} | {found.low:.2g} | {found.high:.2g}"
        except oc.Inconclusive as refusal:
            said = f"refused: {refusal.reason} | |"
        lines.append(f"| {name} | {len(curve)} | {said} |")
    return "\n".join(lines)


# The peak of a record -------------------------------------------------------------------------------

PUBLISHED = 0.4  # of the quick net at batch 512, which its author found by hand


def record_peak(
    *,
    budget: float = BUDGET,
    held_out: int = HELD_OUT,
    shorten: float = 1.0,
    options: dict[str, Any] | None = None,
    results: Path = RESULTS,
) -> str:
    """What `find_lr` says of the quick net in its author's setting, and what it costs.

    The loss is a batch's mean: his is the sum, with the rate divided and the decay multiplied by the batch.
    """
    run = Run(
        "quick net, peak",
        "quick",
        0,
        {"kind": "one_cycle", "max_lr": FOUND},
        epochs=24 / shorten,
        options={"cutout": 8, **(options or {})},
        budget=budget,
    )
    kept = Results("peak", results)
    if kept.of(run) is None:
        steps = run.length(run.build())
        kept.rows.append({**asdict(run), "steps_of_run": steps, "found": find(run, steps, held_out)})
        kept.save()
    return peak_report(results)


def peak_report(results: Path = RESULTS) -> str:
    """A table of what was read off each range test and what its pilots made of it, beside 0.4."""
    lines = [
        "| net | way | peak | from | to | times 0.4 | updates | of the run | seconds |",
        "|---" * 9 + "|",
    ]
    for row in Results("peak", results).rows:
        found = row["found"]
        said = [(found["rule"], found["max_lr"], found["low"], found["high"], found["cost"])]
        if found["pilots"]:
            curve = oc.Curve.from_json(json.dumps(found["curve"]))
            with suppress(oc.Inconclusive):
                read = curve.suggest()
                said.insert(0, (read.rule, read.max_lr, read.low, read.high, len(curve)))
        net = f"width {row['options'].get('width', 64)}, batch {row['batch_size'] or 512}"
        for rule, peak, low, high, cost in said:
            seconds = f"{found['seconds']:.0f}" if cost == found["cost"] else ""
            lines.append(
                f"| {net} | {rule} | {peak:.3g} | {low:.2g} | {high:.2g} | {peak / PUBLISHED:.2f} "
                f"| {cost} | {cost / row['steps_of_run']:.3f} | {seconds} |"
            )
    return "\n".join(lines)
