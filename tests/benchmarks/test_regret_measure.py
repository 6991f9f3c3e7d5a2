from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.regret.measure import Oracle, summary
from benchmarks.regret.oracle import missing


def oracle(losses: list[list[float]], diverged: list[list[bool]] | None = None, **rest: Any) -> Oracle:
    return Oracle(
        rates=np.array([0.01, 0.1, 1.0][: len(losses)]),
        losses=np.array(losses, dtype=np.float64),
        diverged=np.zeros((len(losses), len(losses[0])), np.bool_)
        if diverged is None
        else np.array(diverged),
        **{"trivial": 6.0, **rest},
    )


PLAIN = oracle([[3.0, 5.0], [2.0, 2.0], [math.nan, 50.0]], [[False, False], [False, False], [True, False]])


@pytest.mark.parametrize(
    ("rate", "regret"),
    [
        (0.1, 0.0),
        (0.01, 1.0),
        (10**-1.5, 0.5),  # halfway in the logarithm
        (10**-1.25, 0.25),
        (1.0, 9.0),  # one run diverged, one ended at 25 times the best: both count as ten times
        (10**-0.5, 4.5),
        (1e-4, 1.0),  # beyond the grid
        (30.0, 9.0),
    ],
)
def test_regret_is_the_loss_over_the_best_minus_one(rate: float, regret: float) -> None:
    assert PLAIN.regret(rate) == pytest.approx(regret, abs=1e-12)


def test_the_best_is_the_least_mean_where_no_run_diverged() -> None:
    found = oracle([[3.0, 3.5], [4.0, 4.0], [1.0, math.inf]], [[False] * 2, [False] * 2, [False, True]])
    assert (found.best, found.best_rate) == (3.25, 0.01)
    assert found.regret(1.0) == pytest.approx(((1 / 3.25) + 10) / 2 - 1)


def test_normalised_regret_is_the_share_missed_of_what_training_brings() -> None:
    assert PLAIN.normalised(0.1) == 0.0
    assert PLAIN.normalised(0.01) == pytest.approx(0.5)  # 3 and 5, best 2, trivial 6
    assert PLAIN.normalised(1.0) == 1.0
    assert oracle([[7.0], [6.5]]).normalised(0.01) == 0.0  # trains at no rate: nothing to miss


def test_a_log_density_is_compared_as_a_density() -> None:
    found = oracle([[-0.5], [-1.0], [3.0]], trivial=0.0, signed=True)
    assert found.best == -1.0
    assert found.regret(0.01) == pytest.approx(math.exp(0.5) - 1)
    assert found.regret(1.0) == 9.0  # e^4 > 10
    assert found.normalised(0.01) == pytest.approx(0.5)
    moved = oracle([[9.5], [9.0], [13.0]], trivial=10.0, signed=True)
    assert moved.regret(0.02) == pytest.approx(found.regret(0.02))
    assert moved.normalised(0.02) == pytest.approx(found.normalised(0.02))


def test_a_huge_log_density_does_not_overflow() -> None:
    found = oracle([[1e6], [-1.0]], trivial=0.0, signed=True)
    assert found.regret(0.01) == 9.0


def test_the_plateau_ends_where_the_regret_does() -> None:
    low, high = PLAIN.plateau(0.05)
    assert low == pytest.approx(10**-1.05, rel=0.005)
    assert high == pytest.approx(10 ** (-1 + 0.05 / 9), rel=0.005)
    flat = oracle([[2.0], [2.0], [2.0]])
    assert flat.plateau() == pytest.approx((0.01, 1.0))


def test_a_rate_diverges_where_the_nearest_of_the_grid_does() -> None:
    assert [PLAIN.diverges(rate) for rate in (0.01, 0.3, 0.33, 5.0)] == [False, False, True, True]


def test_noise_is_the_standard_error_at_the_best_rate() -> None:
    # Ratios 0.75 and 1.25 of the mean 2: standard deviation 0.3536, over the root of 2.
    assert oracle([[3.0, 4.0], [1.5, 2.5]]).noise == pytest.approx(0.25)


def test_what_has_no_best_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="at every rate"):
        oracle([[1.0], [2.0]], [[True], [True]])
    with pytest.raises(ValueError, match="must be positive"):
        oracle([[1.0], [0.0]])
    with pytest.raises(ValueError, match="finite and > 0"):
        PLAIN.regret(0.0)


def test_a_rate_that_some_seed_has_yet_to_run_is_left_out() -> None:
    rows = [
        {"rate": rate, "seed": seed, "val_loss": loss, "train_loss": 2 * loss, "diverged": False}
        for rate, seed, loss in [(0.1, 0, 1.0), (0.1, 1, 3.0), (0.01, 1, 4.0), (0.01, 0, 4.0), (1.0, 0, 1.0)]
    ]
    document = {"rows": rows, "trivial_loss": 5.0, "signed": False}
    found = Oracle.of(document)
    assert found.rates.tolist() == [0.01, 0.1]
    assert found.losses.tolist() == [[4.0, 4.0], [1.0, 3.0]]
    assert Oracle.of(document, "train_loss").best == 4.0


def test_summary() -> None:
    assert summary([0.0, 0.05, 0.1, 0.85]) == pytest.approx(
        {"mean": 0.25, "median": 0.075, "worst": 0.85, "within_5_percent": 0.5}
    )


# Which runs the grid needs ----------------------------------------------------------------------------


def grid(best: int, start: list[tuple[int, int]], rounds: int = 20) -> set[int]:
    """Quarters of a decade that are run when the loss is least at `best`; seeds are one."""
    rows: list[dict[str, Any]] = []
    todo = start
    for _ in range(rounds):
        if not todo:
            break
        rows += [
            {"quarter": q, "seed": seed, "val_loss": 1.0 + abs(q - best), "diverged": q > max(best, -20) + 4}
            for q, seed in todo
        ]
        todo = missing(rows, seeds=1)
    assert missing(rows, seeds=1) == []
    return {row["quarter"] for row in rows}


def test_the_grid_begins_with_half_decades_over_six_decades_and_three_seeds() -> None:
    first = missing([], seeds=3)
    assert len(first) == 13 * 3
    assert first[0] == (-20, 0)
    assert first[-1] == (4, 2)


@pytest.mark.parametrize(
    ("best", "finer"),
    [
        (-8, {-11, -9, -7, -5}),
        (-7, {-11, -9, -7, -5, -3}),  # the finer rate is the best: its own neighbours are run, too
    ],
)
def test_the_grid_grows_finer_around_the_best(best: int, finer: set[int]) -> None:
    assert grid(best, missing([], seeds=1)) == set(range(-20, 5, 2)) | finer


def test_the_grid_goes_on_where_the_best_lies_at_its_edge() -> None:
    assert min(grid(-23, missing([], seeds=1))) == -27
    assert max(grid(6, missing([], seeds=1))) == 8
    assert min(grid(-40, missing([], seeds=1))) == -28  # but not without end


def test_a_grid_of_diverged_runs_ends() -> None:
    rows = [
        {"quarter": q, "seed": seed, "val_loss": math.nan, "diverged": True}
        for q, seed in missing([], seeds=3)
    ]
    assert missing(rows, seeds=3) == []
