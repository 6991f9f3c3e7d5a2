from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

import onecycle as oc
from fakes import Quadratic, same
from onecycle._find import SHORTEST, SWEEP, TRIED, Pilot, _together, search


def test_a_small_budget_is_all_sweep() -> None:
    trial = Quadratic(noise=0.01)
    found = search(trial, total_steps=500, budget=0.2)
    assert found.pilots == ()
    assert found.suggestion.rule != "pilots"
    assert found.cost == len(trial.used) == len(found.curve) <= 100


def test_pilots_run_half_a_decade_apart_within_the_budget() -> None:
    trial = Quadratic(noise=0.01)
    found = search(trial, total_steps=10_000, budget=0.1)
    assert len(found.pilots) == len(TRIED)
    rates = [pilot.max_lr for pilot in found.pilots]
    assert [math.log10(a / b) for a, b in pairwise(rates)] == pytest.approx([0.5] * 3)
    assert rates[1] == found.curve.suggest().max_lr
    assert found.cost == len(trial.used) <= 1000
    assert found.cost > 950
    assert found.suggestion.rule == "pilots"
    assert found.suggestion.low <= found.suggestion.max_lr <= found.suggestion.high


def test_each_pilot_is_a_1cycle_run_from_the_same_state() -> None:
    trial = Quadratic(noise=0.01)
    found = search(trial, total_steps=10_000, budget=0.1, seed=7)
    steps = found.pilots[0].steps
    used = trial.used[len(found.curve) :]
    for i, pilot in enumerate(found.pilots):
        policy = oc.one_cycle(pilot.max_lr, steps)
        assert [u["lr"] for u in used[i * steps : (i + 1) * steps]] == [policy(k)["lr"] for k in range(steps)]
    alone = Quadratic(noise=0.01)
    alone.seed(7)
    history = oc.train(alone, oc.one_cycle(found.pilots[1].max_lr, steps))
    tail = [row["loss"] for row in history.rows[-(steps // 10) :]]
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
    least = SWEEP + len(TRIED) * SHORTEST
    assert search(Quadratic(noise=0.01), total_steps=least, budget=1.0).pilots
    assert not search(Quadratic(noise=0.01), total_steps=least // 2, budget=1.0).pilots


READ = oc.Suggestion(0.1, 0.03, 0.4, "onecycle", "")
BELOW = 10**-0.25  # of what pilots do best with


def pilots(*losses: float) -> tuple[Pilot, ...]:
    return tuple(Pilot(10 ** (-0.5 * i), 100, loss) for i, loss in enumerate(losses))


def tried(*losses: float, start: float = 2.0) -> float:
    """What the pilots did best with, as the suggestion tells."""
    return _together(READ, pilots(*losses), start, 1000).max_lr ** 2 / READ.max_lr / BELOW


def test_the_answer_is_the_middle_of_what_was_read_and_what_was_tried() -> None:
    suggestion = _together(READ, pilots(0.4, 0.3, 0.2, 0.1), 2.0, 1000)
    assert suggestion.max_lr == pytest.approx((0.1 * 10**-1.5 * 10**-0.25) ** 0.5)
    assert suggestion.low == pytest.approx(0.03 * suggestion.max_lr / 0.1)
    assert suggestion.high == pytest.approx(0.4 * suggestion.max_lr / 0.1)
    higher = _together(READ, pilots(0.1, 0.2, 0.3, 0.4), 2.0, 1000)
    assert higher.max_lr == pytest.approx((0.1 * 1 * 10**-0.25) ** 0.5)
    assert higher.high == pytest.approx(0.4)  # never beyond what the range test allows
    assert higher.low == pytest.approx(0.03 * higher.max_lr / 0.1)


def test_the_vertex_of_the_parabola_is_read() -> None:
    # loss = (log10 lr + 0.6)**2 at log10 lr = 0, -0.5, -1, -1.5: its least is at -0.6
    losses = [(-0.5 * i + 0.6) ** 2 for i in range(4)]
    assert math.log10(tried(*losses, start=10.0)) == pytest.approx(-0.6)


def test_a_vertex_lies_within_half_a_step_of_the_best() -> None:
    assert math.log10(tried(0.1, 0.1, 1.9, 1.9)) == pytest.approx(-0.25)
    assert math.log10(tried(0.2, 0.1, 1.9, 1.9)) == pytest.approx(-0.5 + 0.85 / 3.8)
    assert math.log10(tried(0.10001, 0.1, 0.10001, 0.5)) == pytest.approx(-0.5)


def test_an_edge_is_taken_as_it_is() -> None:
    assert tried(0.1, 0.2, 0.3, 0.4) == pytest.approx(1.0)
    assert tried(0.4, 0.3, 0.2, 0.1) == pytest.approx(10**-1.5)


def test_diverged_pilots_are_left_out() -> None:
    assert tried(math.inf, math.inf, 0.2, 0.3) == pytest.approx(0.1)


def test_the_reason_says_what_was_tried() -> None:
    assert _together(READ, pilots(0.1, 0.2, 0.3, 0.4), 2.0, 1000).reason == (
        "the range test suggests 0.1, and of 4 1cycle pilots of 100 updates, 10% of the length, the one at 1 "
        "ended lowest, with loss 0.1 from 2: their middle, a little below for the length"
    )


def test_pilots_that_do_not_train_are_refused() -> None:
    message = r"^none of 4 pilots of 100 updates ended below the loss it began with, 2: give a larger budget"
    for losses in ([2.0, 2.1, 2.2, 2.3], [math.inf] * 4):
        with pytest.raises(oc.Inconclusive, match=message):
            _together(READ, pilots(*losses), 2.0, 1000)


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
    rates = [pilot.max_lr for pilot in found.pilots]
    assert [math.log10(a / b) for a, b in pairwise(rates)] == pytest.approx([0.5] * 3)
    assert 0.1 < rates[0] < 2  # the quadratic diverges from 0.5 on
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
    assert found.pilots[0].max_lr == pytest.approx(10**0.5)
    assert 0.3 < found.suggestion.max_lr < 10
