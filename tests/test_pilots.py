from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

import onecycle as oc
from onecycle._pilots import (
    DOUBT,
    FIRST,
    FIRSTS,
    MOST,
    POWER,
    RUNGS,
    SECONDS,
    SHORTEST,
    Plan,
    better,
    climb,
    plan,
    settle,
)

START = 2.0
TWO, ONE = Plan((30, 100), (5, 4)), Plan((100,), (5,))


class Runs:
    """Losses by the logarithm of rate and of length, and what was asked for."""

    def __init__(self, loss: Callable[[float, int], float]) -> None:
        self.loss = loss
        self.asked: list[tuple[float, int]] = []

    def __call__(self, rates: Sequence[float], steps: int) -> list[float]:
        x = [math.log10(rate) for rate in rates]
        self.asked += [(round(each, 6), steps) for each in x]
        return [self.loss(each, steps) for each in x]


def bowl(least: float, floor: float = 0.5) -> Callable[[float, int], float]:
    return lambda x, _: floor + (x - least) ** 2


# Climbing ----------------------------------------------------------------------------------------


def test_a_best_rate_between_two_others_is_found_with_three_runs() -> None:
    runs = Runs(bowl(-1.1))
    seen = climb(runs, 0.1, 50, 5, START)
    assert list(seen) == sorted(seen)
    assert [round(math.log10(rate), 6) for rate in seen] == [-1.5, -1.0, -0.5]


@pytest.mark.parametrize(("least", "last", "count"), [(0.0, 0.5, 4), (-2.0, -2.5, 5)])
def test_it_goes_on_until_the_best_is_seen_from_both_sides(least: float, last: float, count: int) -> None:
    runs = Runs(bowl(least))
    climb(runs, 0.1, 50, 9, START)
    assert runs.asked[-1] == (last, 50)
    assert len(runs.asked) == count


def test_no_more_runs_than_allowed() -> None:
    for most in (1, 2, 3, 4):
        runs = Runs(bowl(3.0))
        climb(runs, 0.1, 50, most, START)
        assert len(runs.asked) == most


def test_where_all_tie_it_looks_up_for_the_end() -> None:
    runs = Runs(lambda x, _: 0.5 if -2.2 < x < 0.2 else math.inf)
    seen = climb(runs, 0.1, 50, 9, START)
    assert [x for x, _ in runs.asked] == [-1, -0.5, 0, 0.5, -1.5]
    assert len(seen) == 5


def test_where_all_diverge_it_looks_down() -> None:
    runs = Runs(lambda x, _: math.inf if x > -2.2 else 1.0)
    climb(runs, 0.1, 50, 5, START)
    assert runs.asked[-1] == (-2.5, 50)


# Lengths -----------------------------------------------------------------------------------------
# The whole is ten times as long as the longest pilots: a decade.


def test_where_longer_runs_end_no_lower_the_best_rate_falls_with_the_length() -> None:
    # The loss depends on rate times length alone, as where a small data set is fitted anyway.
    runs = Runs(lambda x, steps: 0.5 + (x + math.log10(steps) - 1.0) ** 2)
    settled = settle(runs, 1.0, TWO, 1000, START)
    assert math.log10(settled.tried) == pytest.approx(-1.0, abs=0.05)
    assert math.log10(settled.value) == pytest.approx(-1.0 - POWER + DOUBT, abs=0.12)
    assert "longer runs gain little, and want a lower rate; so the whole does best at 0.032" in settled.reason


def test_where_they_end_lower_in_proportion_it_stays() -> None:
    runs = Runs(lambda x, steps: (10 / steps) * (1 + (x + 1.0) ** 2))
    settled = settle(runs, 10**-2.0, TWO, 1000, START)
    assert math.log10(settled.value) == pytest.approx(-1 - DOUBT)


def _gaining(power: float) -> Callable[[float, int], float]:
    return lambda x, steps: (20 / steps) ** power * (1 + (x + 1.0) ** 2)


def test_where_they_gain_more_it_rises_up_to_a_bound() -> None:
    for gain, counts in ((1.25, 1.25), (3.5, MOST)):
        runs = Runs(_gaining(gain))
        settled = settle(runs, 10**-2.0, TWO, 1000, START)
        assert math.log10(settled.value) == pytest.approx(-1 + POWER * (counts - 1) - DOUBT)
        assert "longer runs gain much, and bear as high a rate" in settled.reason


def test_losses_that_are_negative_gain_by_difference() -> None:
    runs = Runs(lambda x, steps: -math.log(steps) + (x + 1.0) ** 2)
    assert math.log10(settle(runs, 10**-2.0, TWO, 1000, START).value) == pytest.approx(-1 - DOUBT)


def test_a_loss_that_is_a_thousandth_of_the_first_is_no_further_gain() -> None:
    runs = Runs(lambda x, steps: (1 / steps) ** 9 * (1 + (x + 1.0) ** 2))
    settled = settle(runs, 0.1, TWO, 1000, START)
    assert settled.value < 0.1
    assert "longer runs gain little, and want a lower rate" in settled.reason


def test_one_length_is_taken_to_gain_nothing_by_more() -> None:
    settled = settle(Runs(bowl(-1.0)), 1.0, ONE, 1000, START)
    assert math.log10(settled.value) == pytest.approx(-1 - POWER + DOUBT)
    assert settled.reason == (
        "of 5 1cycle pilots those of 100 updates, 10% of the length, ended lowest at 0.1, with loss 0.5 from "
        "2; so the whole does best at 0.032, give or take 2.5 times, and 0.079, the nearest to 1, is taken"
    )


def test_the_range_test_stands_where_the_pilots_do_not_contradict_it() -> None:
    for rate in (10**-1.2, 10**-1.5, 10**-1.8):
        settled = settle(Runs(bowl(-1.0)), rate, ONE, 1000, START)
        assert settled.value == rate
        assert settled.reason.endswith(f"give or take 2.5 times, and {rate:.2g} is within that")


def test_short_pilots_leave_the_range_test_more_to_say() -> None:
    for length, decades in ((1000, 1), (10_000, 2)):
        settled = settle(Runs(bowl(1.0)), 0.01, Plan((100,), (9,)), length, START)
        assert math.log10(settled.value) == pytest.approx(1.0 - (POWER + DOUBT) * decades)


def test_no_rate_that_diverged_is_taken() -> None:
    # So much is gained that the whole should bear what a pilot did not.
    runs = Runs(lambda x, steps: math.inf if x > -1.2 else (20 / steps) ** 3.5 * (1 + (x + 1.5) ** 2))
    settled = settle(runs, 0.1, TWO, 1000, START)
    assert settled.high == pytest.approx(0.1)
    assert math.log10(settled.value) == pytest.approx(-1.25)


def test_the_vertex_of_a_parabola_in_the_logarithm_of_the_loss_is_read() -> None:
    settled = settle(Runs(lambda x, _: math.exp((x + 0.9) ** 2) / 9), 1.0, ONE, 1000, START)
    assert math.log10(settled.value) == pytest.approx(-0.9 - POWER + DOUBT)


def test_where_the_last_rate_ties_with_the_one_beside_it_the_middle_is_read() -> None:
    ends = {-2.0: 0.9, -1.5: 0.5, -1.0: 0.501, -0.5: 0.9}
    settled = settle(Runs(lambda x, _: ends[round(x, 2)]), 0.1, ONE, 1000, START)
    assert settled.tried == pytest.approx(10**-1.5)
    assert math.log10(settled.value) == pytest.approx(-1.25 - POWER + DOUBT)
    ends[-1.0] = 0.7
    settled = settle(Runs(lambda x, _: ends[round(x, 2)]), 0.1, ONE, 1000, START)
    assert -1.55 < math.log10(settled.value) < -1.5


@pytest.mark.parametrize(
    ("rate", "below", "value", "ties"),
    [
        (-1.0, 0.5, -1.0, "0.032 to 1"),  # as the range test has it
        (-2.0, 0.5, -2.0, "0.01 to 1"),
        (-2.0, 0.9, -1.5, "0.032 to 1"),  # but no rate that was seen to be worse
    ],
)
def test_pilots_that_tie_over_a_decade_do_not_tell(
    rate: float, below: float, value: float, ties: str
) -> None:
    def loss(x: float, _: int) -> float:
        return math.inf if x > 0.2 else 0.5 if x > -1.7 else below

    settled = settle(Runs(loss), 10**rate, ONE, 1000, START)
    assert math.log10(settled.value) == pytest.approx(value)
    assert settled.reason.endswith(f"but about as low from {ties}, so they do not tell")
    assert settled.ties == pytest.approx(1)
    # Of two lengths the second begins there, too.
    runs = Runs(loss)
    settle(runs, 10**rate, TWO, 1000, START)
    assert next(x for x, steps in runs.asked if steps == TWO.steps[1]) == pytest.approx(value)


def test_firsts_that_do_not_train_do_not_count() -> None:
    runs = Runs(lambda x, steps: 2.5 if steps < 50 else bowl(-1.0)(x, steps))
    assert math.log10(settle(runs, 0.1, TWO, 1000, START).value) == pytest.approx(-1 - POWER + DOUBT)
    assert (-1.0, 100) in runs.asked


@pytest.mark.parametrize("loss", [2.0, 2.5, math.inf])
def test_pilots_that_do_not_train_are_refused(loss: float) -> None:
    with pytest.raises(
        oc.Inconclusive,
        match=r"^none of 9 pilots of up to 100 updates ended below the loss it began with, 2: give a larger "
        r"budget, or change the model's initialisation or normalisation$",
    ):
        settle(Runs(lambda _x, _steps: loss), 0.1, TWO, 1000, START)


def test_pilots_that_gain_no_more_than_noise_leave_the_rate_where_it_was() -> None:
    settled = settle(Runs(lambda x, _: 1.98 - x / 1e3), 0.1, TWO, 1000, START, noise=0.05)
    assert (settled.value, settled.tried, settled.high, settled.told) == (0.1, 0.1, math.inf, False)
    assert settled.reason == (
        "none of 9 pilots of up to 100 updates gained more than the noise of single losses, 0.05, "
        "so they do not tell"
    )
    # But no higher than what pilots bear.
    runs = Runs(lambda x, _: 1.98 if x < -1.2 else math.inf)
    assert -1.75 < math.log10(settle(runs, 0.1, TWO, 1000, START, noise=0.05).value) < -1.2
    # A gain beyond the noise counts, and so does a loss.
    assert settle(Runs(bowl(-1.0)), 0.1, ONE, 1000, START, noise=0.05).told
    with pytest.raises(oc.Inconclusive, match="ended below the loss it began with, 2: give a larger"):
        settle(Runs(lambda _x, _steps: 2.5), 0.1, ONE, 1000, START, noise=0.05)


# Plans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("updates", "total_steps", "expected"),
    [
        (60, 1000, None),
        (119, 1000, None),
        (120, 1000, Plan((40,), (3,))),
        (199, 1000, Plan((66,), (3,))),  # 25 and 49 are no two lengths
        (200, 1000, Plan((25, 50), (2, 3))),
        (1000, 10_000, Plan((90, 272), (2, 3))),
        (100_000, 1000, Plan((41, 125), (2, 8))),
    ],
)
def test_a_plan_is_for_the_updates_there_are(updates: int, total_steps: int, expected: Plan | None) -> None:
    assert plan(updates, total_steps) == expected


def test_a_plan_never_costs_more_than_there_is_and_is_never_too_short_to_tell() -> None:
    for updates in range(0, 3000, 7):
        for total_steps in (50, 300, 1000, 20_000):
            how = plan(updates, total_steps)
            if how is not None:
                assert sum(s * n for s, n in zip(how.steps, how.most, strict=True)) <= updates
                assert how.steps[-1] >= SHORTEST
                assert how.steps[0] >= FIRST
                assert sorted(how.steps) == list(how.steps)
                assert how.most[:-1] in ((), (FIRSTS,))
                assert SECONDS <= how.most[-1] <= RUNGS
            else:
                assert updates < 3 * SHORTEST


def test_what_is_left_is_for_more_rates_not_for_longer_pilots() -> None:
    assert plan(400, 600) == Plan((25, 75), (2, 4))
    assert plan(600, 600) == Plan((25, 75), (2, 7))
    assert plan(400, 600, longest=60) == Plan((25, 60), (2, 5))


def test_a_plan_without_a_suggestion_to_fall_back_on_takes_two() -> None:
    assert plan(80, 1000) is None
    assert plan(80, 1000, least=2) == Plan((40,), (2,))


# Ties --------------------------------------------------------------------------------------------


def test_losses_tie_by_what_was_gained() -> None:
    assert better(0.90, 1.0, START)
    assert not better(0.98, 1.0, START)
    assert better(1.96, 1.99, 2.0)  # little was gained: small differences count
    assert better(-3.2, -3.0, -1.0)
    assert not better(-3.01, -3.0, -1.0)
    assert better(1.0, math.inf, START)
    assert not better(math.inf, math.inf, START)
