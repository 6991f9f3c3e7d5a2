"""`tune`: a recipe from a task within a budget, by the disciplined approach."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from onecycle._arguments import as_real, as_whole, check_functions
from onecycle._errors import for_want_of_memory
from onecycle._files import encode
from onecycle._jobs import Job, Ledger, Result
from onecycle._progress import board
from onecycle._range_test import versions
from onecycle._recipe import Recipe
from onecycle._run_dir import RunDir
from onecycle._runs import Facts, State
from onecycle._search import Found, Search
from onecycle.engines import Engine, choose
from onecycle.tasks import Task, as_task

TRIED = 3  # updates that must come out the same twice
SAME = 1e-3  # relative difference of losses that rounding on a GPU may make


def tune(
    build: Callable[..., Any] | Task,
    *,
    total_steps: int | None = None,
    epochs: float | None = None,
    budget: float = 1.0,
    engine: str | Engine = "local",
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
    on_state: Callable[[State], None] | None = None,
) -> Recipe:
    """Settle rate, batch size, weight decay, momentum and length by short runs within a budget.

    Smith 2018 (arXiv 1803.09820), sections 3 to 5, one choice after the other, each with those before it:
    a range test gives the rate; short 1cycle runs compare rates around it, batch sizes at equal samples,
    weight decays, where the task's own stays unless another ends clearly lower, and momenta; a longer run
    checks what came out, and shows whether more of the training data's repetition helps or harms. What a
    budget above 2 leaves goes to Optuna (TPE, pruned by Hyperband), which begins with that recipe.

    Args:
        build: `build(seed, batch_size=…, weight_decay=…) -> Trial`; without one of the latter two, that one
            is left as it is.
        total_steps: length of training in updates of the task's own batch size.
        epochs: the same in passes over the training data.
        budget: full trainings that may be spent on all of it, counted in samples, from 0.05 to 20.
        engine: where the runs go: "local", "local:4" for four processes, "ray", or an `onecycle.engines`
            engine.
        out: folder for every finished run, the curves and the recipe; None: nothing is kept.
        seed: of everything; the same seed gives the same recipe.
        resume: whether to go on with what `out` holds; else it is begun anew.
        progress: show the search while it goes on, where standard error is a terminal.
        on_state: called after each finished run.

    Returns:
        The recipe; its `evidence` holds the decisions with their reasons, and what it cost.

    Raises:
        Inconclusive: nothing that was tried trains; its `reason` says what was seen.
        TypeError: `build` is neither a function nor a task, or an argument is of another type.
        ValueError: an argument is out of its range, or `build` is not what it must be: it fails, gives no
            trial, ignores an argument, or differs from call to call with the same seed.
    """
    task = as_task(build)
    budget, seed = as_real("budget", budget), as_whole("seed", seed, least=0)
    if not 0.05 <= budget <= 20:
        raise ValueError(f"budget must be from 0.05 to 20 full trainings, got {budget:g}")
    check_functions(on_state=on_state)
    if not isinstance(out, str | os.PathLike | None):
        raise TypeError(f"out must be the path of a folder or None, got {brief(out)}")
    if resume and out is None:
        raise ValueError(f"resume={brief(resume)} needs out, the folder that the search was kept in")
    facts = _check(task, total_steps, epochs, seed)
    if int(budget * facts.total_steps) < 10:
        raise ValueError(
            f"budget must allow for a sweep of 10 updates, got {budget:g} of "
            f"total_steps={facts.total_steps}: raise one"
        )
    folder = None if out is None else Path(out)
    settings = {"task": task.name, "seed": seed, "total_steps": facts.total_steps, "budget": budget}
    runs = choose(engine)
    try:
        with RunDir(folder, "tune", settings, keep=resume) as kept, board(progress) as show:

            def tell(state: State) -> None:
                show(state)
                if on_state is not None:
                    on_state(state)

            ledger = Ledger(None if folder is None else folder / "trials")
            search = Search(task, facts, budget, seed, runs, ledger, tell)
            found = search.recipe()
            for name, curve in search.curves.items():
                kept.curve(name, curve)
            recipe = _with_evidence(found, search, settings)
            kept.recipe(recipe)
            kept.finish(
                "done", cost=recipe.evidence["cost"], max_lr=recipe.max_lr, total_steps=recipe.total_steps
            )
    finally:
        if isinstance(engine, str):
            runs.close()
    return recipe


def _check(task: Task, total_steps: int | None, epochs: float | None, seed: int) -> Facts:
    """Look at the task before anything is spent on it."""
    if (total_steps is None) == (epochs is None):
        raise ValueError(f"give either total_steps or epochs, got {total_steps} and {epochs}")
    trial, losses = _begin(task, seed)
    known = _described(trial)
    batch_size = task.default("batch_size") or trial.size
    if batch_size < 1:
        raise ValueError(f"task {task.name} gives a trial that does not tell its size, samples per step")
    if epochs is not None:
        per_epoch = known.get("steps_per_epoch")
        if per_epoch is None:
            raise ValueError(f"task {task.name} does not say how many steps an epoch has: give total_steps")
        length = max(round(as_real("epochs", epochs) * per_epoch), 1)
    else:
        assert total_steps is not None
        length = as_whole("total_steps", total_steps)
    _, again = _begin(task, seed)
    for step, (one, two) in enumerate(zip(losses, again, strict=True)):
        if not math.isclose(one, two, rel_tol=SAME) and not (math.isnan(one) and math.isnan(two)):
            raise ValueError(
                f"task {task.name} is not deterministic: with seed={seed} the loss at step {step} was "
                f"{one:.6g} and then {two:.6g}: seed every random generator from `seed`, the loader's too"
            )
    accepted = _accepted(task)
    if "batch_size" in accepted and batch_size > 1:
        half = task.trial(seed, batch_size=batch_size // 2)
        half.step()
        if half.size == trial.size:
            raise ValueError(
                f"task {task.name} ignores batch_size: size is {half.size} for {batch_size // 2} as for "
                f"{batch_size}: use it, or leave it out of the arguments to keep it fixed"
            )
    decay = task.default("weight_decay")
    if decay is None and "weight_decay" in accepted:
        decay = known.get("weight_decay")
    if "weight_decay" in accepted and "weight_decay" in known:
        other = 2 * known["weight_decay"] or 1e-4
        seen = _described(task.trial(seed, weight_decay=other)).get("weight_decay")
        if seen == known["weight_decay"]:
            raise ValueError(
                f"task {task.name} ignores weight_decay: the optimizer has {seen:g} for {other:g} as for "
                f"{known['weight_decay']:g}: use it, or leave it out of the arguments to keep it fixed"
            )
    return Facts(
        length,
        batch_size,
        decay,
        tunes_batch_size="batch_size" in accepted and batch_size > 1,
        tunes_weight_decay="weight_decay" in accepted and decay is not None,
        has_momentum="momentum" in known,
        optimizer=known.get("optimizer", ""),
        steps_per_epoch=known.get("steps_per_epoch"),
        normalised=known.get("normalised", True),
    )


def _described(trial: Any) -> dict[str, Any]:
    found: dict[str, Any] = trial.describe() if hasattr(trial, "describe") else {}
    return found


def _begin(task: Task, seed: int) -> tuple[Any, list[float]]:
    trial = task.trial(seed)
    try:
        return trial, [float(trial.step()) for _ in range(TRIED)]
    except Exception as error:
        kind, size = type(error).__name__, getattr(trial, "size", None)
        too_large = f": a batch of {size} does not fit, lower the task's own batch_size"
        way = too_large if for_want_of_memory(error) else ""
        raise ValueError(f"task {task.name} failed in its first updates, {kind}: {error}{way}") from error


def _accepted(task: Task) -> set[str]:
    parameters = inspect.signature(task.build).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {"batch_size", "weight_decay"}
    return {name for name in ("batch_size", "weight_decay") if name in parameters}


def _in_short(job: Job, result: Result) -> dict[str, Any]:
    """A run as a recipe keeps it: what it was, what came out, and the points of a range test."""
    facts = {"name": job.name, **asdict(job), "loss": result.loss, "train_loss": result.train_loss}
    facts |= {"val_loss": result.val_loss, "diverged": result.diverged, "error": result.error}
    if job.kind == "sweep":
        curve = result.curve or {}
        facts |= {name: [float(f"{x:.5g}") for x in curve.get(name, ())] for name in ("value", "loss")}
    else:
        facts = {name: value for name, value in facts.items() if name not in ("start", "end")}
    return {name: value for name, value in facts.items() if value is not None}


def _with_evidence(found: Found, search: Search, settings: dict[str, Any]) -> Recipe:
    decisions = [
        {name: value for name, value in asdict(each).items() if value is not None} for each in found.decisions
    ]
    return Recipe(
        max_lr=found.setting.max_lr,
        interval=found.interval,
        momentum=found.setting.momentum,
        weight_decay=found.setting.weight_decay,
        batch_size=found.setting.batch_size,
        total_steps=found.total_steps,
        evidence=encode(
            {
                **settings,
                "cost": round(search.spent, 9),  # of a sum of fractions
                "versions": versions(),
                "decisions": decisions,
                "trials": [_in_short(job, result) for job, result in search.ledger],
            }
        ),
    )
