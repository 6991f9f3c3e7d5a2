from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import onecycle as oc
from fakes import Quadratic
from onecycle._default_rule import _SHARE_OF_MOVES
from onecycle._moves import SHARE, moves_at

NAN = math.nan


class Measured(Quadratic):
    """One that says how far it moved."""

    def moved(self, state: Any) -> float:
        return float(abs(self.state["x"] - state["x"]) / abs(state["x"]))


def swept(
    slope: float = 2.0,
    *,
    steps: int = 100,
    start: float = 1e-7,
    end: float = 10.0,
    every: int = 10,
    linear: bool = False,
    hyper: str = "lr",
) -> oc.Curve:
    """A sweep of which each update moves the weights, all one way, by `slope` times its rate."""
    value = np.linspace(start, end, steps) if linear else np.geomspace(start, end, steps)
    moved = np.where(np.arange(steps) % every == every - 1, slope * np.cumsum(value), NAN)
    return oc.Curve(value, np.ones(steps), moved=moved, hyper=hyper)


def trough(at: float = 1e-2, moved: npt.ArrayLike | None = None, **settings: Any) -> oc.Curve:
    value = np.geomspace(1e-7, 10, 100)
    x = np.log10(value / at)
    return oc.Curve(
        value,
        2 - np.exp(-((x / 0.8) ** 2)),
        moved=moved,
        settings={"trial": {"optimizer": "Adam"} | settings},
    )


@pytest.mark.parametrize(
    "curve",
    [
        swept(),
        swept(steps=33),
        swept(steps=400, end=1.0),
        swept(linear=True, start=0, end=1, steps=200),
        swept(every=1),
        swept(end=1e-2),
        swept(start=1e-4),
    ],
)
def test_the_rate_at_which_an_update_moves_by_a_sixth_is_that_of_any_sweep(curve: oc.Curve) -> None:
    # Of a sweep that ends below it, or is measured seldom, too.
    assert moves_at(curve) == pytest.approx(SHARE / 2.0, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_weights_that_move_less_bear_a_rate_that_is_higher_by_as_much(factor: float) -> None:
    assert moves_at(swept(2.0 * factor)) == pytest.approx(SHARE / 2.0 / factor, rel=1e-6)


@pytest.mark.parametrize(
    "curve",
    [
        oc.Curve([0.1, 1], [1, 1]),
        oc.Curve([0.1, 1], [1, 1], moved=[NAN, NAN]),
        oc.Curve([0.1, 1], [1, 1], moved=[0, 0]),
        oc.Curve([0.1, 1], [1, 1], moved=[5e-324, 5e-324]),
        oc.Curve([0.1, 1], [1, 1], moved=[NAN, math.inf]),
        oc.Curve([0.1, 1], [1, 1], moved=[3, 5]),
        oc.Curve([], [], moved=[]),
        swept(hyper="momentum"),
    ],
    ids=[
        "not measured",
        "never",
        "not moved",
        "hardly moved",
        "infinitely far",
        "beyond at once",
        "empty",
        "no rate",
    ],
)
def test_nothing_is_said_where_it_was_not_measured(curve: oc.Curve) -> None:
    assert moves_at(curve) is None


def test_of_several_sweeps_it_is_the_median() -> None:
    sweeps = [swept(slope) for slope in (1.0, 4.0, 2.0)] + [oc.Curve([0.1], [1.0], moved=[NAN])]
    together = oc.Curve(
        np.concatenate([sweep.value for sweep in sweeps]),
        np.concatenate([sweep.loss for sweep in sweeps]),
        seed=np.repeat([0, 1, 2, 3], [100, 100, 100, 1]),
        moved=np.concatenate([sweep.moved for sweep in sweeps if sweep.moved is not None]),
    )
    assert moves_at(together) == pytest.approx(SHARE / 2, rel=1e-6)


def test_a_last_measure_that_is_not_finite_is_left_out() -> None:
    curve = swept(end=1e-2)
    assert curve.moved is not None
    moved = curve.moved.copy()
    moved[-1] = math.inf
    assert moves_at(oc.Curve(curve.value, curve.loss, moved=moved)) == pytest.approx(SHARE / 2, rel=1e-6)


def test_the_suggestion_goes_two_fifths_of_the_way_to_what_the_weights_say() -> None:
    by_loss = trough().suggest()
    slope = 3.0
    seen = swept(slope)
    told = trough(moved=seen.moved).suggest()
    by_moves = _SHARE_OF_MOVES * SHARE / slope
    assert told.value == pytest.approx(by_loss.value**0.6 * by_moves**0.4, rel=1e-6)
    said = f", two fifths of the way to a fifth of {SHARE / slope:.3g}, where an update moves the weights by"
    assert said in told.reason
    assert told.low < told.value < told.high
    assert told.high / told.value == pytest.approx(by_loss.high / by_loss.value)


@pytest.mark.parametrize(("slope", "times"), [(1e-1, 3), (2e2, 1 / 3)])
def test_the_suggestion_is_moved_by_no_more_than_three_times(slope: float, times: float) -> None:
    told = trough(moved=swept(slope).moved).suggest()
    assert told.value == pytest.approx(times * trough().suggest().value)
    assert f"times {times:.3g}, the most, towards a fifth of" in told.reason


@pytest.mark.parametrize("slope", [1e-6, 1e6])
def test_moves_that_are_out_of_the_question_are_not_heeded(slope: float) -> None:
    assert trough(moved=swept(slope).moved).suggest() == trough().suggest()


def test_a_move_beyond_the_sweep_is_told_as_what_would_be() -> None:
    said = "where an update would move the weights by a sixth"
    assert said in trough(0.1, moved=swept(1e-2).moved).suggest().reason


@pytest.mark.parametrize("every", [2, 5, 10])
def test_a_log_that_is_thinned_out_says_the_same(every: int) -> None:
    whole = swept(2.0, steps=400)
    at = np.arange(every - 1, 400, every)
    assert whole.moved is not None
    thin = oc.Curve(whole.value[at], whole.loss[at], whole.step[at], moved=whole.moved[at])
    assert moves_at(thin) == pytest.approx(SHARE / 2, rel=0.1)


def test_steps_that_do_not_rise_count_nothing() -> None:
    curve = swept(2.0)
    assert moves_at(oc.Curve(curve.value, curve.loss, np.zeros(100, dtype=int), moved=curve.moved)) is None


def test_a_momentum_and_passes_count_for_both() -> None:
    plain: dict[str, Any] = {"optimizer": "RMSprop", "momentum": 0.0, "steps_per_epoch": 11}
    moved = swept(3.0).moved
    factor = trough(**plain).suggest().value / trough(optimizer="RMSprop", momentum=0.9).suggest().value
    alike = (
        trough(moved=moved, **plain).suggest().value
        / trough(moved=moved, optimizer="RMSprop", momentum=0.9).suggest().value
    )
    assert alike == pytest.approx(factor)
    assert factor < 0.3


def test_each_of_several_sweeps_is_read_with_its_own_moves() -> None:
    one, other, third = (trough(moved=swept(slope).moved) for slope in (1.0, 2.0, 9.0))
    together = oc.Curve(
        np.concatenate([curve.value for curve in (one, other, third)]),
        np.concatenate([curve.loss for curve in (one, other, third)]),
        seed=np.repeat([0, 1, 2], 100),
        settings=one.settings,
        moved=np.concatenate([curve.moved for curve in (one, other, third) if curve.moved is not None]),
    )
    assert together.suggest().value == pytest.approx(other.suggest().value)


def test_a_loss_that_never_falls_is_refused_whatever_the_weights_do() -> None:
    value = np.geomspace(1e-7, 10, 100)
    noise = np.random.default_rng(0).normal(size=100)
    with pytest.raises(oc.Inconclusive, match="too noisy"):
        oc.Curve(value, 2 + noise, moved=swept().moved).suggest()


def test_a_range_test_measures_each_tenth_step_and_the_last() -> None:
    curve = oc.range_test(Measured(), steps=25, end=1e-2)
    assert curve.moved is not None
    assert np.flatnonzero(np.isfinite(curve.moved)).tolist() == [9, 19, 24]
    trial = Measured()
    trial.seed(0)
    for value in curve.value[:20]:
        trial.set(lr=value)
        trial.step()
    assert curve.moved[19] == pytest.approx(abs(1 - trial.state["x"]))


def test_each_repeat_is_measured_from_the_same_start() -> None:
    curve = oc.range_test(Measured(), steps=20, repeats=2, end=1e-2)
    assert curve.moved is not None
    assert curve.moved[[9, 19]].tolist() == curve.moved[[29, 39]].tolist()


def test_a_trial_that_cannot_tell_and_another_hyper_parameter_have_none() -> None:
    assert oc.range_test(Quadratic(), steps=20).moved is None
    assert oc.range_test(Measured(), steps=20, hyper="momentum", start=0.5, end=0.9).moved is None


def test_it_is_kept_in_both_files_and_old_ones_have_none(tmp_path: Any) -> None:
    curve = oc.range_test(Measured(), steps=25, end=1e-2)
    assert oc.Curve.from_json(curve.to_json()) == curve
    curve.to_csv(tmp_path / "curve.csv")
    back = oc.Curve.from_csv(tmp_path / "curve.csv")
    np.testing.assert_array_equal(back.moved, curve.moved)
    old = curve.to_json().replace('"moved"', '"unknown"')
    assert oc.Curve.from_json(old).moved is None
