"""`onecycle demo`: the main job end to end on real handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onecycle._policies import Policy, one_cycle
from onecycle._range_test import range_test
from onecycle._recipe import Recipe
from onecycle._run_dir import RunDir
from onecycle._schedules import constant
from onecycle._train import History, train
from onecycle.tasks import Task, resolve

DEFAULT_LR = 1e-3  # torch.optim.SGD's own


def run(print_: Callable[..., None], out: Path, epochs: int, seed: int, progress: bool) -> None:
    """Range test, suggestion, 1cycle training and the baseline, with files and figures in `out`."""
    task = resolve("digits")
    with RunDir(out, "demo", {"task": "digits", "epochs": epochs, "seed": seed}) as folder:
        _run(print_, task, folder, out, epochs, seed, progress)


def _run(
    print_: Callable[..., None],
    task: Task,
    folder: RunDir,
    out: Path,
    epochs: int,
    seed: int,
    progress: bool,
) -> None:
    trial = task.trial(seed)
    curve = range_test(trial, seed=seed, progress=progress)
    folder.curve("lr", curve)
    suggestion = curve.suggest()
    per_epoch = trial.steps_per_epoch  # type: ignore[attr-defined]
    length = epochs * per_epoch
    policy = one_cycle(suggestion, length)
    folder.figure("policy", policy.plot)
    folder.recipe(
        Recipe(
            max_lr=suggestion.max_lr,
            interval=(suggestion.low, suggestion.high),
            weight_decay=task.default("weight_decay"),
            batch_size=task.default("batch_size"),
            total_steps=length,
            evidence={"task": "digits", "rule": suggestion.rule, "reason": suggestion.reason, "seed": seed},
        )
    )
    runs = {
        f"1cycle up to {suggestion.max_lr:.2g}": policy,
        f"constant {DEFAULT_LR:g}, the default": Policy(length, constant(DEFAULT_LR)),
    }
    histories = {}
    for (name, values), file in zip(runs.items(), ("metrics.csv", "baseline.csv"), strict=True):
        trial = task.trial(seed)
        history = train(trial, values, evaluate_every=per_epoch, progress=progress, title=name)
        history.save(out / file)
        histories[name] = history
    folder.figure("training", lambda path: _plot(histories, path))
    results = {name: _result(history) for name, history in histories.items()}
    document: dict[str, Any] = {
        "max_lr": suggestion.max_lr,
        "low": suggestion.low,
        "high": suggestion.high,
        "reason": suggestion.reason,
        "total_steps": length,
        "results": results,
    }
    folder.finish("done", **document)
    print_(
        {"status": "done", **document},
        "Handwritten digits (1,437 images of 8 x 8 to train on, 360 to validate), a small convolutional net",
        f"1. range test: {len(curve)} mini-batches, {curve.settings['endings'][0]}",
        f"2. suggestion: max_lr {suggestion.max_lr:.2g}, from {suggestion.low:.2g} to {suggestion.high:.2g}",
        f"   why: {suggestion.reason}",
        f"3. {length} updates ({epochs} epochs) with it, and with a plain constant rate:",
        "",
        f"   {'':28}{'validation accuracy':>20}{'validation loss':>18}",
        *(
            f"   {name:28}{result['accuracy']:>20.1%}{result['val_loss']:>18.4f}"
            for name, result in results.items()
        ),
        "",
        f"Figures and files: {out}/figures/lr.png, policy.png, training.png; {out}/recipe.toml, metrics.csv",
        f"All of it as one page: onecycle report {out}",
        f"Train with the recipe: onecycle train digits --recipe {out}/recipe.toml",
    )


def _result(history: History) -> dict[str, float | None]:
    return {name: history.last(name) for name in ("accuracy", "val_loss", "loss")}


def _plot(histories: dict[str, History], path: Path) -> None:
    from onecycle.plot import plot_lines

    plot_lines(
        {name: history.column("accuracy") for name, history in histories.items()},
        path,
        ylabel="validation accuracy",
    )
