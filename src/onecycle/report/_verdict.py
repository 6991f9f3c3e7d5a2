"""The answer of a run in a sentence, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from onecycle._numbers import number
from onecycle._recipe import Recipe
from onecycle._train import History
from onecycle.report._read import Run
from onecycle.report._words import counted, outcome


def verdict(run: Run) -> str:
    """The answer in a sentence: what to train with, what it comes to, what it rests on. HTML."""
    status = str(run.info.get("status"))
    reason = escape(str(run.info.get("reason") or "").rstrip("."))
    note = {
        "running": "Not finished: it still runs, or was stopped before it could say so.",
        "interrupted": "Interrupted before its end; this is what was kept.",
        "inconclusive": f"The evidence does not tell: {reason}.",
        "error": f"Ended with an error: {reason}.",
        "diverged": "Training diverged: its loss is not finite at the end. Lower the peak rate.",
    }.get(status, "" if status == "done" else f"Status: {escape(status)}.")
    lines = [f'<p class="note">{note}</p>'] if note else []
    recipe = plan(run)
    if recipe is None:
        if status in ("done", "running", "interrupted"):
            lines.append('<p class="verdict">There is no recipe in this folder.</p>')
        return "".join(lines)
    history = run.histories.get("metrics.csv")
    if run.info.get("command") == "train":
        done = len(history.rows) if history else 0
        sentence = (
            f"Trained for {counted(done, 'update')} with 1cycle, up to a learning rate of "
            f"<strong>{number(recipe.max_lr)}</strong>"
        )
        came = outcome(_ends(history)) if history and status == "done" else ""
        return "".join([*lines, f'<p class="verdict">{sentence}{": " + came if came else ""}.</p>'])
    clauses = [f"Train with 1cycle up to a learning rate of <strong>{number(recipe.max_lr)}</strong>"]
    if recipe.batch_size:
        clauses.append(f"in batches of {recipe.batch_size}")
    if recipe.weight_decay is not None:
        clauses.append(f"with weight decay {number(recipe.weight_decay)}")
    if recipe.total_steps:
        clauses.append(f"for {counted(recipe.total_steps, 'update')}")
    sentence = f"{', '.join(clauses)}. {_expected(run)} {_confidence(run, recipe)}"
    return "".join([*lines, f'<p class="verdict">{sentence}</p>'])


def plan(run: Run) -> Recipe | None:
    """The recipe, or what a training run's record shows of it."""
    history = run.histories.get("metrics.csv")
    if run.recipe is not None or history is None:
        return run.recipe
    rates, momenta = history.column("lr")[1], history.column("momentum")[1]
    total = run.fact("total_steps")
    try:
        return Recipe(
            max_lr=max(rates),
            momentum=(max(momenta), min(momenta)) if momenta else None,
            total_steps=total if isinstance(total, int) else len(history.rows),
        )
    except (TypeError, ValueError):
        return None


def _expected(run: Run) -> str:
    length = run.recipe.total_steps if run.recipe is not None else None
    checks = [
        t for t in run.trials if t.job.stage == "check" and not t.sweep and length in (t.job.steps, None)
    ]
    good = [t.loss for t in checks if math.isfinite(t.loss)]
    if checks:
        lost = f", and {len(checks) - len(good)} diverged" if len(good) < len(checks) else ""
        if not good:
            return f"{counted(len(checks), 'run').capitalize()} with it diverged."
        if len(good) == 1:
            return f"Expect a loss of {number(good[0])}, as one run with it did{lost}."
        spread = f"{number(min(good))} to {number(max(good))}"
        mean = number(sum(good) / len(good))
        return f"Expect a loss of {mean} ({spread} in {counted(len(good), 'run')} with it{lost})."
    history = run.histories.get("metrics.csv")
    if history is not None and run.info.get("status") == "done":
        return f"Expect {outcome(_ends(history))}, as one whole run did."
    return "What it comes to was not measured: no run of the whole length was made."


def _confidence(run: Run, recipe: Recipe) -> str:
    interval = ""
    if recipe.interval is not None:
        low, high = recipe.interval
        interval = f"; the best is expected between {number(low)} and {number(high)}"
    if run.trials:
        runs = sum(not t.sweep for t in run.trials)
        found = f"It rests on {counted(len(run.trials), 'trial')}, {counted(runs, 'run')} among them"
    elif (pilots := pilots_of(run)) and (recipe.evidence.get("rule") == "pilots"):
        found = f"The rate was tried in {counted(len(pilots), 'short run')}"
    else:
        points = sum(map(len, run.curves.values()))
        source = f"one range test of {counted(points, 'mini-batch')}" if points else "the recipe alone"
        if len(run.curves) > 1:
            source = f"{len(run.curves)} range tests"
        whole = run.histories.get("metrics.csv") is not None
        tried = "" if whole else ", and not tried"
        found = f"The rate was read from {source}{tried}"
    return f"{found}{interval}."


def _ends(history: History) -> dict[str, float]:
    names = [*history.metrics, "val_loss", "loss"]
    values = {name: value for name in names if (value := history.last(name)) is not None}
    if len(values) > 1:
        values.pop("loss")
    return values


def pilots_of(run: Run) -> list[Mapping[str, Any]]:
    """Pilots as the run tells them, else the recipe."""
    evidence = run.recipe.evidence if run.recipe is not None else {}
    found = run.info.get("pilots") or evidence.get("pilots")
    return [p for p in found if isinstance(p, Mapping)] if isinstance(found, list) else []
