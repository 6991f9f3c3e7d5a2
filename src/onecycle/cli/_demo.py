"""`onecycle demo`: the main job end to end on real handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecycle.cli._session import FOLDER, Session, common, examples, talking
from onecycle.cli._task import kept
from onecycle.cli._words import begun, looked, swept, wrapped

if TYPE_CHECKING:
    from onecycle._progress import Board
    from onecycle._run_dir import RunDir
    from onecycle._train import History

DEFAULT_LR = 1e-3  # torch.optim.SGD's own


@click.command(epilog=examples("demo", "demo --out demo --epochs 10", "demo --json"))
@click.option("--out", type=FOLDER, default=Path("onecycle-demo"), show_default=True,
              help="Where figures and files go.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Length of both runs.")
@talking
@common
@click.pass_obj
def demo(session: Session, out: Path, epochs: int) -> None:
    """See it work: range test, suggestion, then 1cycle training on real handwritten digits.

    Beside it, the same net is trained for as many steps at the optimizer's default rate.
    """
    from onecycle._progress import searching
    from onecycle._run_dir import RunDir

    settings = {"task": "digits", "epochs": epochs, "seed": session.seed}
    session.kept = f"; what was finished is in {out}: the same command begins anew, under a minute in all"
    with searching("handwritten digits", not session.quiet) as board, RunDir(out, "demo", settings) as folder:
        session.say(*begun(settings))
        document, lines = _run(session, board, folder, out, epochs)
    session.say(kept(out))
    session.result(document, *lines)


def _run(
    session: Session, board: Board, folder: RunDir, out: Path, epochs: int
) -> tuple[dict[str, Any], list[str]]:
    from onecycle._policies import one_cycle
    from onecycle._policy import Policy
    from onecycle._range_test import range_test
    from onecycle._recipe import Recipe
    from onecycle._schedules import constant
    from onecycle._train import train
    from onecycle.tasks import resolve

    task, seed, progress = resolve("digits"), session.seed, not session.quiet
    trial = task.trial(seed)
    curve = range_test(trial, seed=seed, progress=progress)
    session.say(swept(curve))
    folder.curve("lr", curve)
    suggestion = curve.suggest()
    found = f"{suggestion.max_lr:.2g}"
    board.update(
        settled=[
            ("range test", f"{len(curve)} updates", str(curve.settings["endings"][0])),
            ("suggestion", found, suggestion.reason),
        ]
    )
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
        f"1cycle up to {found}": policy,
        f"constant {DEFAULT_LR:g}, the default": Policy(length, constant(DEFAULT_LR)),
    }
    histories = {}
    for (name, values), file in zip(runs.items(), ("metrics.csv", "baseline.csv"), strict=True):
        trial = task.trial(seed)
        session.say(f"training: {name}")
        history = train(
            trial,
            values,
            evaluate_every=per_epoch,
            after_evaluation=lambda history: session.say(looked(history, length)),
            progress=progress,
            title=name,
        )
        history.save(out / file)
        histories[name] = history
        board.update(
            settled=[*board.settled, (name, f"{history.last('accuracy'):.1%}", "validation accuracy")]
        )
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
    accuracies = "; ".join(f"{result['accuracy']:.1%} {name}" for name, result in results.items())
    return {"status": "done", **document}, [
        f"validation accuracy: {accuracies}",
        "1,437 handwritten digits to train on, 360 to validate; a small convolutional net",
        f"1. range test: {len(curve)} mini-batches, {curve.settings['endings'][0]}",
        f"2. suggestion: max_lr {found}, from {suggestion.low:.2g} to {suggestion.high:.2g}",
        wrapped(f"   why: {suggestion.reason}"),
        f"3. {length} updates ({epochs} epochs) with it, and with a plain constant rate:",
        "",
        f"   {'':28}{'validation accuracy':>20}{'validation loss':>18}",
        *(
            f"   {name:28}{result['accuracy']:>20.1%}{result['val_loss']:>18.4f}"
            for name, result in results.items()
        ),
        "",
        f"Figures: {out}/figures/lr.png, policy.png, training.png",
        f"All of it as one page: onecycle report {out}",
        f"Train with the recipe: onecycle train digits --recipe {out}/recipe.toml",
    ]


def _result(history: History) -> dict[str, float | None]:
    return {name: history.last(name) for name in ("accuracy", "val_loss", "loss")}


def _plot(histories: dict[str, History], path: Path) -> None:
    from onecycle.plot import plot_lines

    plot_lines(
        {name: history.column("accuracy") for name, history in histories.items()},
        path,
        ylabel="validation accuracy",
    )
