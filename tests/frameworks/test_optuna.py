"""Optuna: the space around a recipe, and the recipe as first trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

import onecycle as oc

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'onecycle[optuna]'")

import optuna

from onecycle.optuna import enqueue, suggest_recipe

RECIPE = oc.Recipe(
    0.3,
    min_lr=0.03,
    interval=(0.1, 0.5),
    momentum=(0.95, 0.85),
    weight_decay=1e-4,
    batch_size=64,
    total_steps=500,
)


@pytest.fixture
def study() -> Iterator[optuna.Study]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(optuna.logging.INFO)


def searched(study: optuna.Study, recipe: oc.Recipe, count: int = 60) -> list[oc.Recipe]:
    found: list[oc.Recipe] = []

    def objective(trial: optuna.Trial) -> float:
        found.append(suggest_recipe(trial, recipe))
        return found[-1].max_lr

    study.optimize(objective, n_trials=count)
    return found


def test_the_first_trial_is_the_recipe_itself(study: optuna.Study) -> None:
    enqueue(study, RECIPE)
    enqueue(study, RECIPE)  # a study that is gone on with asks again
    first, second = searched(study, RECIPE, 2)
    assert first == dataclasses.replace(RECIPE, interval=None)
    assert second.max_lr != 0.3


def test_all_that_is_suggested_lies_around_the_recipe(study: optuna.Study) -> None:
    found = searched(study, RECIPE)
    assert 0.1 / 3 <= min(r.max_lr for r in found) < 0.06
    assert 0.9 < max(r.max_lr for r in found) <= 1.5
    assert all(r.min_lr == pytest.approx(r.max_lr / 10) for r in found)
    lows = [r.momentum[1] for r in found if isinstance(r.momentum, tuple) and r.momentum[0] == 0.95]
    assert len(lows) == 60
    assert 0.4 <= min(lows) < 0.5
    assert 0.9 < max(lows) <= 0.95
    assert {r.batch_size for r in found} == {32, 64, 128}
    decays = [r.weight_decay or 0 for r in found]
    assert 1e-4 / 3 <= min(decays) < max(decays) <= 3e-4
    assert found[0].policy()(499)["lr"] > 0


def test_what_the_recipe_leaves_open_is_not_searched(study: optuna.Study) -> None:
    searched(study, oc.Recipe(0.3, momentum=None), 1)
    assert study.trials[0].params.keys() == {"max_lr"}


def test_a_constant_momentum_stays_one(study: optuna.Study) -> None:
    recipe = oc.Recipe(0.3, momentum=0.9, weight_decay=0.0)
    enqueue(study, recipe)
    first, second = searched(study, recipe, 2)
    assert first.momentum == pytest.approx(0.9)
    assert isinstance(second.momentum, float)
    assert 0.6 <= second.momentum <= 0.975


def test_a_space_without_width_is_refused(study: optuna.Study) -> None:
    with pytest.raises(ValueError, match="widen must be a factor > 1, got 1"):
        suggest_recipe(study.ask(), RECIPE, widen=1)
