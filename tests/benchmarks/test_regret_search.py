from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.regret import calibration, choose, pilots, search
from benchmarks.regret.measure import Oracle

# Least at 0.1, where the two seeds differ; the highest rate diverges from the second.
BOWL = Oracle(
    rates=np.array([1e-5, 0.1, 10.0]),
    losses=np.array([[5.0, 5.0], [1.0, 3.0], [7.0, math.nan]]),
    diverged=np.array([[False, False], [False, False], [False, True]]),
    trivial=6.0,
)


def test_a_run_ends_where_the_grid_says() -> None:
    assert search.ended(BOWL, -1, 0) == 1.0
    assert search.ended(BOWL, -3, 1) == pytest.approx(4.0)
    assert search.ended(BOWL, 1, 1) == 20.0  # ten times the best mean, 2
    assert search.ended(BOWL, -9, 0) == 5.0


def test_a_search_is_judged_by_the_rate_of_its_best_run() -> None:
    # The second run is best by luck of its seed, and the third by its mean: the second is taken.
    runs = [(-5.0, 5.0), (-3.0, 3.0), (-1.0, 3.5), (0.0, 2.9)]
    regrets = search.regrets(BOWL, runs)
    assert regrets[:3] == pytest.approx([1.5, 0.75, 0.75])
    assert regrets[3] == BOWL.regret(1.0)


def test_random_search_is_the_same_for_a_seed_and_finds_the_best_in_time() -> None:
    assert search.random_search(BOWL, 3) == search.random_search(BOWL, 3)
    mean = np.mean([search.regrets(BOWL, search.random_search(BOWL, i)) for i in range(50)], axis=0)
    assert mean.shape == (search.RUNS,)
    assert mean[0] > 3 * mean[-1]


def test_a_task_left_out_has_the_choice_that_is_best_for_the_others() -> None:
    table = np.array([[0.0, 0.2, 0.2], [0.5, 0.1, 0.0]])  # two choices, three tasks
    # Without the first the second choice is best; without the second or the third, the first.
    assert choose.left_out(table) == pytest.approx((0.5 + 0.2 + 0.2) / 3)


def test_intervals_are_tried_on_the_task_that_they_were_not_made_of() -> None:
    even = {name: np.linspace(-1, 1, 101) for name in "abc"}
    assert calibration.held(even, 0.5) == pytest.approx(0.5, abs=0.02)
    # A task that is off by more than any other is never held, and widens what the others are given.
    odd = even | {"odd": np.full(101, 5.0)}
    assert calibration.held(odd, 0.6) == pytest.approx(0.75 * 0.7, abs=0.01)


def test_the_constants_are_among_the_best_of_what_was_recorded() -> None:
    with_sgd, others, *heeded, towards = (part.splitlines()[2:] for part in choose.report().split("\n\n"))
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in with_sgd}
    assert rows["0.00", "0.50"][3] in ("0.13", "0.16")  # a share of divergence: 0.14
    assert float(rows["0.00", "0.50"][0]) <= min(float(row[0]) for row in rows.values()) + 0.02
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in others}
    assert rows["0.00", "0.50"][3] in ("0.40", "0.50")  # a share of the trough: 0.5
    assert float(rows["0.00", "0.50"][2]) == min(float(row[2]) for row in rows.values())
    tie = 0.002  # of the means with one task left out: a quarter of the weight on the minimum is as good
    assert float(rows["0.00", "0.50"][0]) <= min(float(row[0]) for row in rows.values()) + tie + 1e-9
    for lines in heeded:
        ways = {tuple(line.split()[:2]): line.split()[2:] for line in lines}
        taken, alone, only = (ways[way, "0.200"] for way in ("0.40", "0.00", "1.00"))
        assert float(taken[1]) < float(alone[1])
        assert all(float(taken[mean]) < float(only[mean]) for mean in (0, 1))
        assert float(taken[1]) <= min(float(way[1]) for way in ways.values()) + 0.005
        # With SGD the uncapped mean is no lower for them, and fewer tasks become steady.
        tied, more = (0.005, 10) if lines is heeded[0] else (0.0, 15)
        assert float(taken[0]) < float(alone[0]) + tied
        assert int(taken[4].rstrip("%")) >= int(alone[4].rstrip("%")) + more
    table = {tuple(line.split()[:3]): line.split()[3:] for line in towards}
    assert len(table) == len(choose.TOWARDS)
    kept = table["1.5", "4", "0.07"]
    for worse in (("1", "1", "0.07"), ("1.5", "1.5", "0.07"), ("1.5", "2", "0.07")):
        assert all(float(a) < float(b) for a, b in zip(kept[:2], table[worse][:2], strict=True))
    assert float(kept[0]) < float(table["1.5", "4", "0.1"][0])  # the capped means tie


def test_the_reading_of_pilots_is_among_the_best_of_what_was_recorded() -> None:
    lines = pilots.report().split("\n\n")[0].splitlines()
    alone, kept = (
        next(line[len(name) :].split() for line in lines if line.startswith(name))
        for name in ("the range test alone", "power 0.5, doubt 0.4")
    )
    assert float(kept[0]) < float(alone[0]) - 0.01
    assert float(kept[1]) < float(alone[1])
    assert int(kept[3].rstrip("%")) > int(alone[3].rstrip("%"))
    others = [float(line[28:].split()[0]) for line in lines if line.startswith("power")]
    assert float(kept[0]) <= min(others) + 0.006
