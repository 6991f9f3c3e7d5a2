"""What a large budget leaves: Optuna's TPE around the recipe that short runs gave, pruned by Hyperband."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onecycle._jobs import CYCLED, Result

if TYPE_CHECKING:
    from onecycle._search import Found, Search, Setting

FROM = 2.0  # full trainings below which short runs alone decide
FIRST = 2.0  # full trainings that go to the short runs then, but no more than half
RUNGS = (1 / 9, 1 / 3, 1.0)  # shares of the training, each a whole 1cycle: a part of a longer one misleads
AT_ONCE = 4  # trials asked for together, whatever the engine, so that each engine finds the same
LARGE = 8.0  # whole trainings from which the best are run again
FINALISTS = 2  # that are run again with another seed, as the best of many was lucky too
AS_CYCLED = "cycled"
_LOST = 1e30  # stands for infinity, which a study cannot take
MOMENTA = (AS_CYCLED, 0.8, 0.9, 0.95, 0.97, 0.99)


def beyond(search: Search, found: Found) -> Found:
    """The best recipe that the rest of the budget finds, `found` itself if none is better.

    Raises:
        ImportError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ImportError(
            f"a budget above {FROM:g} is searched with Optuna: pip install 'onecycle[optuna]', or give less"
        ) from None
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return _search(optuna, search, found)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _search(optuna: Any, search: Search, found: Found) -> Found:
    space = _space(optuna, search, found.setting)
    study = optuna.create_study(
        study_name="onecycle",  # by which Hyperband draws its brackets
        sampler=optuna.samplers.TPESampler(
            seed=search.seed, multivariate=True, constant_liar=True, n_startup_trials=5
        ),
        pruner=optuna.pruners.HyperbandPruner(1, len(RUNGS), reduction_factor=3),
    )
    finished: dict[Setting, list[Result]] = {}
    whole = search.jobs("search", [found.setting], 1.0)
    if search.fitting(whole):
        finished[found.setting] = search.do(whole)
        study.add_trial(
            optuna.trial.create_trial(
                params=_parameters(found.setting, space),
                distributions=space,
                value=finished[found.setting][0].loss,
            )
        )
    for values in _neighbours(found.setting, space):
        study.enqueue_trial(values)
    cost = search.cost(whole[0])
    reserve = FINALISTS * cost if search.budget >= LARGE * cost else 0.0
    pruned = optuna.trial.TrialState.PRUNED
    while search.fitting(whole, reserve):
        asked = [study.ask(space) for _ in range(AT_ONCE)]
        alive = [(trial, _setting(trial.params, found.setting)) for trial in asked]
        for rung, share in enumerate(RUNGS):
            jobs = search.jobs("search", [setting for _, setting in alive], share)
            fit = search.fitting(jobs, reserve)
            for trial, _ in alive[fit:]:
                study.tell(trial, state=pruned)
            left = []
            for (trial, setting), result in zip(alive, search.do(jobs[:fit]), strict=False):
                trial.report(result.loss, rung)
                if share == 1.0:
                    finished[setting] = [result]
                    study.tell(trial, result.loss if result.loss < math.inf else _LOST)
                elif trial.should_prune() or result.loss == math.inf:
                    study.tell(trial, state=pruned)
                else:
                    left.append((trial, setting))
            alive = left
    return _best(search, found, finished, reserve > 0) if finished else found


def _best(search: Search, found: Found, finished: dict[Setting, list[Result]], twice: bool) -> Found:
    from onecycle._search import Decision

    finalists = sorted(finished, key=lambda setting: finished[setting][0].loss)[:FINALISTS]
    for setting in finalists:
        again = search.jobs("search", [setting], 1.0, seed=1)
        if len(finalists) > 1 and twice and search.fitting(again):
            finished[setting] += search.do(again)

    def mean(setting: Setting) -> float:
        return statistics.fmean(result.loss for result in finished[setting])

    best = min(finalists, key=lambda setting: (len(finished[setting]) < FINALISTS, mean(setting)))
    first = found.setting
    before = f", where the recipe of the short runs ended with {mean(first):.4g}" if first in finished else ""
    reason = f"of {len(finished)} full trainings, loss {mean(best):.4g}{before}"
    full = search.steps(best, 1.0)
    settled: list[tuple[str, Any]] = [
        (name, getattr(best, name)) for name in ("max_lr", "batch_size", "weight_decay", "momentum")
    ]
    more = [
        Decision(name, value, reason)
        for name, value in [*settled, ("total_steps", full)]
        if value != (getattr(first, name) if name != "total_steps" else found.total_steps)
    ]
    move = best.max_lr / first.max_lr
    low, high = found.interval
    return replace(
        found,
        setting=best,
        interval=(low * move, high * move),
        total_steps=full,
        decisions=(*found.decisions, *more),
    )


def _space(optuna: Any, search: Search, centre: Setting) -> dict[str, Any]:
    facts = search.facts
    floats, choices = (
        optuna.distributions.FloatDistribution,
        optuna.distributions.CategoricalDistribution,
    )
    space = {"max_lr": floats(centre.max_lr / 10, centre.max_lr * 10, log=True)}
    if facts.tunes_batch_size and centre.batch_size is not None:
        sizes = {max(int(facts.batch_size * factor), 1) for factor in (0.25, 0.5, 1, 2, 4)}
        space["batch_size"] = choices(sorted(sizes | {centre.batch_size}))
    if facts.tunes_weight_decay:
        base = centre.weight_decay or search.usual_decay
        space["weight_decay"] = floats(base / 100, base * 100, log=True)
    if facts.has_momentum:
        space["momentum"] = choices(MOMENTA)
    return space


def _parameters(setting: Setting, space: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(setting, name) for name in space}
    if "momentum" in values and isinstance(values["momentum"], tuple):
        values["momentum"] = AS_CYCLED
    if "weight_decay" in values:
        values["weight_decay"] = max(values["weight_decay"], space["weight_decay"].low)
    return values


def _neighbours(setting: Setting, space: dict[str, Any]) -> list[dict[str, Any]]:
    """Near the recipe of the short runs, in what these tell least of: rate and decay for the whole length."""
    own = _parameters(setting, space)
    near = [{**own, "max_lr": setting.max_lr * factor} for factor in (0.5, 2)]
    if "weight_decay" in space:
        near += [{**own, "weight_decay": own["weight_decay"] * factor} for factor in (3, 1 / 3)]
    return near


def _setting(values: dict[str, Any], first: Setting) -> Setting:
    if values.get("momentum", AS_CYCLED) == AS_CYCLED:
        values = {**values, "momentum": CYCLED}
    return replace(first, **values)
