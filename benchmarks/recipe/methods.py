"""The ways to a recipe that are compared, and what each one's recipe ends with."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import onecycle as oc
from benchmarks.regret.tasks import Task
from onecycle import tasks
from onecycle._jobs import Job, perform

FRESH = (100, 101)  # seeds that no method has seen, by which all are judged
TPE = (1, 5, 20)  # full trainings
BUDGETS = (0.2, 1.0, 5.0)  # full trainings of `tune`
PEERS = ("valley", "steep", "minimum", "torch-lr-finder", "lightning")
# torch's own rates, constant, which a training without any thought has
DEFAULTS = {
    "sgd": 1e-3,
    "momentum": 1e-3,
    "nesterov": 1e-3,
    "rmsprop": 1e-2,
    "adam": 1e-3,
    "adamw": 1e-3,
    "muon": 1e-3,
}
LR, DECAY, MOMENTUM = (1e-5, 10.0), (1e-6, 1e-1), (0.8, 0.99)
SIZES = (0.25, 0.5, 1, 2, 4)  # times the task's own batch size

Row = dict[str, Any]


def rows(task: Task, seed: int, wanted: Callable[[str, float], bool]) -> list[Row]:
    """What each method finds with a seed, those for which `wanted(method, cost)`."""
    found: list[Row] = []
    if wanted("default", 0.0):
        found.append(_row(task, "default", seed, 0.0, _constant, DEFAULTS[task.optimizer]))
    sweep = oc.range_test(task.build(seed), seed=seed, progress=False, evaluations=0)
    share = len(sweep) / task.total_steps
    for rule in ("onecycle", *PEERS):
        if wanted(rule, share):
            try:
                rate, refused = sweep.suggest(rule).max_lr, False
            except oc.Inconclusive:
                rate, refused = task.usual_lr, True
            recipe = oc.Recipe(rate, batch_size=task.batch_size, total_steps=task.total_steps)
            found.append(_row(task, rule, seed, share, train, recipe) | {"refused": refused})
    found += [_tuned(task, seed, budget) for budget in BUDGETS if wanted("tune", budget)]
    if any(wanted("tpe", count) for count in TPE):
        found += _tpe(task, seed)
    return found


def tuned(task: Task, seed: int, budget: float) -> oc.Recipe:
    """What `tune` finds; what people take without looking, and no evidence, where it refuses."""
    try:
        return oc.tune(
            tasks.Task(task.name, task.build),
            total_steps=task.total_steps,
            budget=budget,
            seed=seed,
            progress=False,
        )
    except oc.Inconclusive:
        return oc.Recipe(task.usual_lr, batch_size=task.batch_size, total_steps=task.total_steps)


def _tuned(task: Task, seed: int, budget: float) -> Row:
    begin = time.perf_counter()
    recipe = tuned(task, seed, budget)
    seconds = time.perf_counter() - begin
    row = _row(task, "tune", seed, budget, train, recipe)
    spent = recipe.evidence.get("cost")
    return row | {"spent": spent, "seconds": round(seconds, 2), "refused": not recipe.evidence}


def _tpe(task: Task, seed: int) -> list[Row]:
    """Optuna's TPE over the same four, each trial a full training with another seed than the judges'."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    named = tasks.Task(task.name, task.build)

    def objective(trial: Any) -> float:
        size = int(task.batch_size * trial.suggest_categorical("batch_size", SIZES))
        recipe = oc.Recipe(
            trial.suggest_float("max_lr", *LR, log=True),
            batch_size=size,
            weight_decay=trial.suggest_float("weight_decay", *DECAY, log=True),
            momentum=trial.suggest_float("momentum", *MOMENTUM),
            total_steps=round(task.total_steps * task.batch_size / size),
        )
        trial.set_user_attr("recipe", dataclasses.asdict(recipe))
        return min(perform(named, _job(recipe, seed)).loss, 1e30)

    begin = time.perf_counter()
    found = []
    for count in TPE:
        study.optimize(objective, n_trials=count - len(study.trials))
        recipe = oc.Recipe(**study.best_trial.user_attrs["recipe"])
        seconds = round(time.perf_counter() - begin, 2)
        row = _row(task, "tpe", seed, float(count), train, recipe)
        found.append(row | {"seconds": seconds, "selected": study.best_value})
    return found


def _row(
    task: Task, method: str, seed: int, cost: float, end: Callable[[Task, Any, int], float], recipe: Any
) -> Row:
    losses = [end(task, recipe, fresh) for fresh in FRESH]
    facts: Mapping[str, Any] = {"max_lr": recipe}
    if isinstance(recipe, oc.Recipe):
        names = ("max_lr", "batch_size", "weight_decay", "momentum", "total_steps")
        facts = {name: getattr(recipe, name) for name in names}
    return {
        "method": method,
        "seed": seed,
        "cost": round(cost, 4),
        **facts,
        "losses": losses,
        "loss": statistics.fmean(losses),
        "said": f"{method} {cost:g}, seed {seed}: {statistics.fmean(losses):.4g}",
    }


def _job(recipe: oc.Recipe, seed: int) -> Job:
    assert recipe.total_steps is not None
    return Job(
        "full",
        "run",
        seed,
        recipe.total_steps,
        recipe.batch_size,
        recipe.weight_decay,
        recipe.max_lr,
        recipe.momentum,
    )


def train(task: Task, recipe: oc.Recipe, seed: int) -> float:
    """The validation loss that a recipe ends with."""
    return perform(tasks.Task(task.name, task.build), _job(recipe, seed)).loss


def _constant(task: Task, rate: float, seed: int) -> float:
    trial = task.build(seed)
    trial.seed(seed)
    history = oc.train(trial, oc.Policy(task.total_steps, oc.constant(rate)), progress=False)
    loss = history.last("val_loss")
    return float("inf") if loss is None else loss
