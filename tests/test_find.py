from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import onecycle as oc
from fakes import Quadratic, same
from onecycle._find import SWEEP, Seen, look, search, suggestion
from onecycle._pilots import FIRSTS, RUNGS, SECONDS, SHORTEST, Settled, plan


def test_a_small_budget_is_all_sweep() -> None:
    trial = Quadratic(noise=0.01)
    found = search(trial, total_steps=500, budget=0.2)
    assert found.pilots == ()
    assert found.suggestion.rule != "pilots"
    assert found.cost == len(trial.used) == len(found.curve) <= 100


def test_pilots_of_two_lengths_run_half_a_decade_apart_within_the_budget() -> None:
    trial = Quadratic(noise=0.01)
    found = search(trial, total_steps=10_000, budget=0.1)
    how = plan(1000 - len(found.curve), 10_000)
    assert how is not None
    first = [pilot.max_lr for pilot in found.pilots if pilot.steps == how.steps[0]]
    then = [pilot.max_lr for pilot in found.pilots if pilot.steps == how.steps[1]]
    assert len(first) + len(then) == len(found.pilots)
    assert len(first) == FIRSTS
    assert SECONDS <= len(then) <= RUNGS
    for rates in (first, then):
        assert [math.log10(b / a) for a, b in pairwise(sorted(rates))] == pytest.approx(
            [0.5] * (len(rates) - 1)
        )
    assert first[0] == found.curve.suggest().max_lr
    assert found.cost == len(trial.used) <= 1000
    assert found.cost > 600
    assert found.suggestion.rule == "pilots"
    assert found.suggestion.low <= found.suggestion.max_lr <= found.suggestion.high


def test_each_pilot_is_a_1cycle_run_from_the_same_state() -> None:
    trial = Quadratic(noise=0.01)
    found = search(trial, total_steps=10_000, budget=0.1, seed=7)
    used = iter(trial.used[len(found.curve) :])
    for pilot in found.pilots:
        policy = oc.one_cycle(pilot.max_lr, pilot.steps)
        assert [next(used)["lr"] for _ in range(pilot.steps)] == [policy(k)["lr"] for k in range(pilot.steps)]
    steps = found.pilots[1].steps
    alone = Quadratic(noise=0.01)
    alone.seed(7)
    history = oc.train(alone, oc.one_cycle(found.pilots[1].max_lr, steps))
    tail = [row["loss"] for row in history.rows[-max(steps // 10, 5) :]]
    assert found.pilots[1].loss == pytest.approx(sum(tail) / len(tail))


def test_the_trial_is_as_it_was() -> None:
    trial = Quadratic(noise=0.01, val=True)
    trial.step()
    before = trial.save()
    search(trial, total_steps=10_000, budget=0.1)
    assert same(trial.state, before)


def test_the_trial_is_as_it_was_after_an_error_in_a_pilot() -> None:
    calls = 0

    def fail(step: int) -> None:  # noqa: ARG001
        nonlocal calls
        calls += 1
        if calls == 500:
            raise RuntimeError("out of memory")

    trial = Quadratic(noise=0.01, fail=fail)
    before = trial.save()
    with pytest.raises(RuntimeError, match="out of memory"):
        search(trial, total_steps=10_000, budget=0.1)
    assert same(trial.state, before)


def test_validation_loss_decides_where_there_is_one() -> None:
    found = search(Quadratic(noise=0.01, val=True), total_steps=10_000, budget=0.1)
    by_training = search(Quadratic(noise=0.01, val=True), total_steps=10_000, budget=0.1, objective="train")
    assert [p.loss for p in found.pilots] != [p.loss for p in by_training.pilots]
    assert min(p.loss for p in found.pilots) >= 0


def test_validation_loss_cannot_decide_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"^objective 'val' needs a val_loader, and the trial has none$"):
        search(Quadratic(noise=0.01), total_steps=10_000, budget=0.1, objective="val")


def test_the_curve_is_handed_over_before_the_pilots_run() -> None:
    seen: list[Any] = []
    trial = Quadratic(noise=0.01)
    found = search(
        trial,
        total_steps=10_000,
        budget=0.1,
        on_curve=lambda curve: seen.append((curve, len(trial.used))),
    )
    assert seen == [(found.curve, len(found.curve))]


def test_same_seed_same_answer() -> None:
    def suggestion(seed: int) -> oc.Suggestion:
        return oc.find_lr(Quadratic(noise=0.3), total_steps=10_000, budget=0.1, seed=seed)

    assert suggestion(1) == suggestion(1)


def test_a_flat_curve_is_refused() -> None:
    trial = Quadratic()
    trial.step = lambda: 1.0  # type: ignore[method-assign]
    with pytest.raises(oc.Inconclusive):
        oc.find_lr(trial, total_steps=10_000)


def test_pilots_are_run_only_where_they_are_long_enough_to_tell() -> None:
    least = SWEEP + 3 * SHORTEST
    assert search(Quadratic(noise=0.01), total_steps=least, budget=1.0).pilots
    assert not search(Quadratic(noise=0.01), total_steps=least // 2, budget=1.0).pilots


READ = oc.Suggestion(0.1, 0.03, 0.4, "onecycle", "")


def test_the_interval_goes_with_the_rate_and_ends_where_pilots_diverged() -> None:
    found = suggestion(Seen(READ), Settled(0.2, 0.3, math.inf, "pilots said so"))
    assert (found.max_lr, found.low, found.high) == pytest.approx((0.2, 0.06, 0.8))
    assert found.reason == "the range test suggests 0.1; pilots said so"
    assert suggestion(Seen(READ), Settled(0.2, 0.1, 0.3, "")).high == pytest.approx(0.3)
    assert suggestion(Seen(READ), Settled(0.2, 0.1, 0.15, "")).high == pytest.approx(0.2)


def test_pilots_that_do_not_tell_leave_the_range_test_its_word() -> None:
    read = oc.Suggestion(0.1, 0.01, 0.5, "onecycle", "it rises from 0.5 on")
    found = suggestion(Seen(read, noise=0.1), Settled(0.1, 0.1, math.inf, "no pilot tells", told=False))
    assert found == oc.Suggestion(0.1, 0.01, 0.5, "onecycle", "it rises from 0.5 on; no pilot tells")
    lower = suggestion(Seen(read, noise=0.1), Settled(0.05, 0.05, math.inf, "no pilot tells", told=False))
    assert (lower.low, lower.value, lower.high) == pytest.approx((0.005, 0.05, 0.25))


def test_without_a_reading_the_interval_ends_where_the_loss_rose() -> None:
    found = suggestion(Seen(None, rises=0.5), Settled(0.2, 0.3, math.inf, "pilots said so"))
    assert (found.low, found.high) == pytest.approx((0.04, 0.5))
    assert found.reason == (
        "the loss of the range test never clearly falls, and rises from 0.5 on; pilots said so"
    )


def test_of_a_loss_that_still_falls_at_the_end_it_is_not_said_that_it_rises() -> None:
    value = np.geomspace(1e-6, 1.0, 100)
    seen = look(oc.Curve(value, 2 - value**0.5))
    assert (seen.read, seen.rises) == (None, math.inf)
    assert seen.begin == pytest.approx(10**-0.75)
    found = suggestion(seen, Settled(0.2, 0.3, math.inf, "pilots said so"))
    assert (found.low, found.high) == pytest.approx((0.04, 1.0))
    unread = "in the range test the loss still falls at the highest rate, 1, so pilots began at 0.18"
    assert found.reason == f"{unread}; pilots said so"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, r"^total_steps must be a whole number >= 1, got 0$"),
        ({"budget": 0.0}, r"^budget must allow for a sweep of 10 updates, got 0 of total_steps=1000"),
        ({"budget": -1.0}, r"^budget must allow for a sweep of 10 updates, got -1 of total_steps=1000"),
        ({"budget": math.nan}, r"^budget must be a finite number, got nan$"),
        ({"objective": "test"}, r"^objective must be 'train', 'val' or None, got 'test'$"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    trial = Quadratic()
    with pytest.raises(ValueError, match=message):
        oc.find_lr(trial, **{"total_steps": 1000, **arguments})
    assert trial.used == []


class Trained(Quadratic):
    """So near its best that noise hides the fall of a range test: each pilot gains a little."""

    def __init__(self, noise: float = 0.05) -> None:
        super().__init__(noise=noise, val=True)
        self.state["x"] = 0.05


def test_pilots_below_the_edge_decide_where_the_range_test_only_rises() -> None:
    trial = Trained()
    before = trial.save()
    found = search(trial, total_steps=10_000, budget=0.1)
    with pytest.raises(oc.Inconclusive):
        found.curve.suggest()
    assert found.suggestion.rule == "pilots"
    assert "never clearly falls, and rises from" in found.suggestion.reason
    assert same(trial.state, before)
    assert 0.05 < found.pilots[0].max_lr < 0.5  # the quadratic diverges from 0.5 on
    assert found.cost == len(trial.used) <= 1000
    trial.set(lr=0.0)
    ends = []
    for rate in (found.suggestion.low, found.suggestion.max_lr):
        trial.restore(before)
        oc.train(trial, oc.one_cycle(rate, 1000))
        ends.append(trial.evaluate())
    start = Trained().evaluate()
    assert start is not None
    assert all(end is not None and end < start / 10 for end in ends)


def test_a_budget_without_room_for_pilots_is_said_where_only_they_would_tell() -> None:
    with pytest.raises(
        oc.Inconclusive,
        match=r"^the range test alone does not tell \(the loss .*\), and a budget of 100 updates leaves none "
        r"for pilots, short runs that would: give one of at least \d+ updates$",
    ):
        search(Trained(), total_steps=1000, budget=0.1)


NOISE = 1 + 0.1 * np.random.default_rng(0).standard_normal(100)


def read_by(facts: dict[str, Any], loss: Any = NOISE) -> Seen:
    return look(oc.Curve(np.geomspace(1e-7, 1e-3, 100), loss, settings={"trial": facts}))


@pytest.mark.parametrize(
    ("facts", "begin"),
    [
        ({"optimizer": "Adam"}, 1e-3),
        ({"optimizer": "SGD", "momentum": 0.9}, 0.1),
        ({"optimizer": "SGD", "momentum": 0.0}, 0.1),
    ],
)
def test_pilots_begin_at_the_usual_rate_where_the_range_test_shows_nothing(
    facts: dict[str, Any], begin: float
) -> None:
    seen = read_by(facts)
    assert (seen.read, seen.begin) == (None, begin)
    assert seen.noise > 0.01  # what they have to gain to be believed
    for unknown in ({}, {"optimizer": "Mine"}):
        with pytest.raises(oc.Inconclusive):
            read_by(unknown)
    for flat in (np.ones(100), 1 + 1e-8 * NOISE):
        with pytest.raises(oc.Inconclusive):
            read_by(facts, flat)


class Described(Quadratic):
    """One that says what it is trained with, and whose loss is never near zero."""

    def step(self) -> float:
        return 2.3 + super().step()

    def describe(self) -> dict[str, Any]:
        return {"optimizer": "Adam"}


def refusal(seed: int) -> str:
    """What `find_lr` says of noise; nothing where it suggests a rate."""
    try:
        trial = Described(curvature=0.0, noise=1.0)
        oc.find_lr(trial, total_steps=2000, budget=0.3, seed=seed)
    except oc.Inconclusive as no:
        return no.reason
    return ""


def test_noise_alone_is_no_rate_by_pilots_either() -> None:
    said = [refusal(seed) for seed in range(10)]
    assert sum("gained more than the noise of single losses" in each for each in said) >= 8


def test_judged_by_training_loss_nothing_is_evaluated() -> None:
    trial = Quadratic(noise=0.01, val=True)
    search(trial, total_steps=10_000, budget=0.1, objective="train")
    assert trial.evaluated == []


def test_pilots_decide_where_the_loss_still_falls_at_the_end_of_the_sweep() -> None:
    trial = Quadratic(curvature=0.01, noise=1e-5, val=True)
    found = search(trial, total_steps=10_000, budget=0.1)
    with pytest.raises(oc.Inconclusive, match="the loss still falls at the highest rate, 10"):
        found.curve.suggest()
    assert found.suggestion.rule == "pilots"
    assert found.pilots[0].max_lr == pytest.approx(10**0.25)
    assert 0.3 < found.suggestion.max_lr < 200  # where the quadratic diverges
