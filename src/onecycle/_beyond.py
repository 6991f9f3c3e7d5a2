"""What a large budget leaves: Optuna's TPE around the recipe that short runs gave, pruned by Hyperband."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onecycle._decay import FELT, forgets_in
from onecycle._jobs import CYCLED, Result
from onecycle._pilots import STEP
from onecycle._runs import Decision, Setting

if TYPE_CHECKING:
    from onecycle._search import Found, Search

FROM = 2.0  # full trainings below which short runs alone decide
FIRST = 2.0  # full trainings that go to the short runs then, or 1 where these leave too little:
COMPARED = 4.0  # full trainings in which two others can be compared with their recipe
RUNGS = (1 / 9, 1 / 3, 1.0)  # shares of the training, each a whole 1cycle: a part of a longer one misleads
AT_ONCE = 4  # trials asked for together, whatever the engine, so that each engine finds the same
LARGE = 12.0  # whole trainings from which more is trained again
FINALISTS = (1, 3)  # that are trained again, with few and with many, as the best of many was lucky too
BELOW_IT = 10**-0.125  # times a rate that won half a decade up: the edge may be near, and differs by seed
ALONE = 0.1  # share by which a loss must be lower than that of one run alone
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


def for_short_runs(budget: float) -> float:
    """What part of a budget above `FROM` goes to the short runs."""
    return FIRST if budget < 1 + COMPARED else min(FIRST, budget - COMPARED)


def _search(optuna: Any, search: Search, found: Found) -> Found:
    first = found.setting
    length = min(found.total_steps / search.steps(first, 1.0), 1.0)  # less where longer runs were worse
    (whole,) = search.jobs("search", [first], length)
    cost = search.cost(whole)
    large = search.budget >= LARGE * cost
    finalists = FINALISTS[large]
    # For the best to be trained again, and the short runs' recipe too.
    reserve = (finalists + 1) * cost
    if not search.fitting([whole], finalists * cost + cost):
        return found
    space = _space(optuna, search, first)
    study = optuna.create_study(
        study_name="onecycle",  # by which Hyperband draws its brackets
        sampler=optuna.samplers.TPESampler(
            seed=search.seed, multivariate=True, constant_liar=True, n_startup_trials=5
        ),
        pruner=optuna.pruners.HyperbandPruner(1, len(RUNGS), reduction_factor=3),
    )
    finished: dict[Setting, list[Result]] = {first: search.do([whole])}
    for setting in _likely(search, first, whole.steps):
        (job,) = search.jobs("search", [setting], length)
        if not search.fitting([job], finalists * cost):
            break
        finished[setting] = search.do([job])
        if search.better(finished[setting][0].loss, finished[first][0].loss):
            break
    for setting, (result,) in finished.items():
        study.add_trial(
            optuna.trial.create_trial(
                params=_parameters(setting, space), distributions=space, value=min(result.loss, _LOST)
            )
        )
    for values in _neighbours(first, space):
        study.enqueue_trial(values)
    pruned = optuna.trial.TrialState.PRUNED
    before = -1.0
    while search.fitting([whole], reserve) and search.spent > before:
        before = search.spent
        asked = [study.ask(space) for _ in range(AT_ONCE)]
        alive = [(trial, _setting(trial.params, first)) for trial in asked]
        for rung, share in enumerate(RUNGS):
            jobs = search.jobs("search", [setting for _, setting in alive], share * length)
            fit = search.fitting(jobs, reserve)
            for trial, _ in alive[fit:]:
                study.tell(trial, state=pruned)
            left = []
            for (trial, setting), result in zip(alive, search.do(jobs[:fit]), strict=False):
                trial.report(result.loss, rung)
                if share == 1.0:
                    finished[setting] = [result]
                    study.tell(trial, min(result.loss, _LOST))
                elif trial.should_prune() or result.loss == math.inf:
                    study.tell(trial, state=pruned)
                else:
                    left.append((trial, setting))
            alive = left
    return _best(search, found, finished, length, finalists)


def _likely(search: Search, first: Setting, steps: int) -> list[Setting]:
    """What short runs misjudge most often: the rate, and before it a decay that a short training feels."""
    rates = [replace(first, max_lr=first.max_lr * factor) for factor in (1 / STEP, STEP)]
    decay = first.weight_decay
    if not decay or not search.facts.tunes_weight_decay:
        return rates
    felt = forgets_in(first.max_lr, decay, search.facts.optimizer) < FELT * steps
    return [replace(first, weight_decay=decay / 10), *rates] if felt else rates


def _best(
    search: Search,
    found: Found,
    finished: dict[Setting, list[Result]],
    length: float,
    finalists: int,
) -> Found:
    """The short runs' recipe, unless another ends lower with every seed, and clearly so in the mean."""
    first = found.setting
    lower = [setting for setting, runs in finished.items() if runs[0].loss < finished[first][0].loss]
    lower = sorted(lower, key=lambda setting: finished[setting][0].loss)[:finalists]
    for setting in [*lower, *([first] if lower else [])]:
        jobs = search.jobs("search", [setting], length, seed=1)
        finished[setting] += search.do(jobs[: search.fitting(jobs)])
    losses = {setting: [result.loss for result in runs] for setting, runs in finished.items()}
    mean = {setting: statistics.fmean(each) for setting, each in losses.items()}

    def wins(setting: Setting) -> bool:
        if len(losses[setting]) == 1 or losses[setting][1] == math.inf:
            return False
        gains = [one - own for one, own in zip((losses[first] * 2)[:2], losses[setting], strict=True)]
        by = 0.0 if len(losses[first]) > 1 else ALONE
        # Where two seeds gain so unlike as that, one of them was luck.
        alike = min(gains) > max(gains) / 3 or mean[first] == math.inf
        return min(gains) > 0 and alike and search.better(mean[setting], mean[first], by)

    best = min(filter(wins, lower), key=mean.__getitem__, default=first)
    count = f"of {len(finished)} full trainings"
    if best == first:
        kept = Decision("max_lr", first.max_lr, f"{count} none ended clearly lower, and with each seed")
        return replace(found, decisions=(*found.decisions, kept))
    reason = (
        f"{count}, loss {mean[best]:.4g} in the mean of {len(losses[best])} seeds, where the recipe of the "
    )
    reason += f"short runs ended with {mean[first]:.4g}"
    if best == replace(first, max_lr=first.max_lr * STEP):
        best = replace(best, max_lr=best.max_lr * BELOW_IT)
        reason += "; a little lower than that, as the edge may be near"
    full = search.steps(best, length)
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
    """Near the recipe of the short runs, in what these tell least of for the whole length: the decay."""
    own = _parameters(setting, space)
    near = []
    if "weight_decay" in space:
        low = space["weight_decay"].low
        near += [{**own, "weight_decay": max(own["weight_decay"] * factor, low)} for factor in (0.1, 10)]
    return near


def _setting(values: dict[str, Any], first: Setting) -> Setting:
    if values.get("momentum", AS_CYCLED) == AS_CYCLED:
        values = {**values, "momentum": CYCLED}
    return replace(first, **values)
