from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import onecycle as oc
from fakes import Quadratic, same
from onecycle._range_test import Stop


def test_the_rate_is_recorded_with_the_loss_of_its_own_step() -> None:
    trial = Quadratic()
    trial.step = lambda: trial.state["hyper"]["lr"]  # type: ignore[method-assign]
    curve = oc.range_test(trial, start=1e-3, end=1e-1, steps=30)
    assert curve.loss.tolist() == curve.value.tolist()


def test_exponential_sweep_goes_from_start_to_end_by_one_factor() -> None:
    curve = oc.range_test(Quadratic(), start=1e-4, end=1e-2, steps=21)
    assert curve.value[[0, 10, 20]] == pytest.approx([1e-4, 1e-3, 1e-2], rel=1e-12)
    assert np.ptp(np.diff(np.log(curve.value))) < 1e-12
    assert curve.sweep == "exponential"
    assert curve.step.tolist() == list(range(21))


def test_linear_sweep_may_start_at_zero() -> None:
    curve = oc.range_test(Quadratic(), start=0, end=0.1, steps=11, sweep="linear")
    assert curve.value == pytest.approx(np.arange(11) / 100)
    assert curve.sweep == "linear"


def test_losses_are_those_of_the_plain_loop() -> None:
    plain, losses = Quadratic(noise=0.1), []
    plain.seed(3)
    curve = oc.range_test(Quadratic(noise=0.1), start=1e-3, end=0.4, steps=25, seed=3)
    for value in curve.value:
        plain.set(lr=value)
        losses.append(plain.step())
    assert curve.loss.tolist() == losses
    assert curve.seed.tolist() == [3] * 25


def test_the_trial_is_as_it_was() -> None:
    trial = Quadratic(noise=0.1)
    trial.step()
    before = trial.save()
    oc.range_test(trial, steps=20, repeats=2)
    assert same(trial.state, before)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(1)])
def test_the_trial_is_as_it_was_after_an_error(error: BaseException) -> None:
    def fail(step: int) -> None:
        if step == 17:
            raise error

    trial = Quadratic(fail=fail)
    before = trial.save()
    with pytest.raises(type(error)):
        oc.range_test(trial, steps=30)
    assert same(trial.state, before)


def test_repeats_begin_alike_and_differ_in_seed() -> None:
    curve = oc.range_test(Quadratic(noise=0.1), start=1e-3, end=0.1, steps=12, repeats=3, seed=5)
    assert curve.seed.tolist() == [5] * 12 + [6] * 12 + [7] * 12
    assert curve.step.tolist() == 3 * list(range(12))
    parts = curve.loss.reshape(3, 12)
    assert not np.array_equal(parts[0], parts[1])
    alone = oc.range_test(Quadratic(noise=0.1), start=1e-3, end=0.1, steps=12, seed=6)
    assert alone.loss.tolist() == parts[1].tolist()


def test_same_seed_same_curve() -> None:
    def run(seed: int) -> oc.Curve:
        return oc.range_test(Quadratic(noise=0.1), steps=40, seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_trial_that_cannot_be_seeded_is_left_as_it_is() -> None:
    class Unseeded(Quadratic):
        seed: Any = None

    curve = oc.range_test(Unseeded(noise=0.1), start=1e-3, end=0.1, steps=12, repeats=2)
    assert curve.loss[:12].tolist() == curve.loss[12:].tolist()


def test_several_batches_at_each_value() -> None:
    curve = oc.range_test(Quadratic(), start=1e-3, end=1e-2, steps=10, batches_per_value=3)
    assert len(curve) == 30
    assert len(set(curve.value.tolist())) == 10
    assert (curve.value.reshape(10, 3) == curve.value[::3, None]).all()


def test_validation_loss_is_measured_before_the_step_it_stands_beside() -> None:
    trial = Quadratic(val=True)
    curve = oc.range_test(trial, start=1e-3, end=0.1, steps=40, evaluations=4)
    assert trial.evaluated == [0, 10, 20, 30]
    assert curve.val_loss is not None
    there = np.isfinite(curve.val_loss)
    assert np.flatnonzero(there).tolist() == [0, 10, 20, 30]
    assert curve.val_loss[there].tolist() == curve.loss[there].tolist()


def test_validation_loss_is_asked_for_once_where_there_is_none() -> None:
    trial = Quadratic()
    curve = oc.range_test(trial, start=1e-3, end=0.1, steps=40, evaluations=40)
    assert trial.evaluated == [0]
    assert curve.val_loss is None


def test_no_evaluations() -> None:
    trial = Quadratic(val=True)
    assert oc.range_test(trial, start=1e-3, end=0.1, steps=20, evaluations=0).val_loss is None
    assert trial.evaluated == []


@pytest.mark.parametrize("hyper", ["momentum", "weight_decay"])
def test_other_hyper_parameters_are_swept_too(hyper: Any) -> None:
    trial = Quadratic()
    curve = oc.range_test(trial, hyper=hyper, start=0.5, end=0.9, steps=10)
    assert [used[hyper] for used in trial.used] == curve.value.tolist()
    assert {used["lr"] for used in trial.used} == {0.01}
    assert curve.hyper == hyper


def test_settings_say_how_it_was_made() -> None:
    settings = oc.range_test(Quadratic(), start=1e-3, end=1e-2, steps=10, seed=4).settings
    assert settings["start"] == 1e-3
    assert settings["end"] == 1e-2
    assert settings["steps"] == 10
    assert settings["repeats"] == 1
    assert settings["seed"] == 4
    assert settings["batches_per_value"] == 1
    assert settings["batch_size"] == 8
    assert settings["endings"] == ["the sweep reached its end"]
    assert settings["versions"]["onecycle"] == oc.__version__


# Stopping ---------------------------------------------------------------------------------------------


def test_it_stops_in_the_block_after_divergence() -> None:
    # SGD on a quadratic diverges for lr > 2 / curvature = 0.5.
    curve = oc.range_test(Quadratic(curvature=4.0), start=1e-3, end=10, steps=200)
    assert curve.value[-1] > 0.5
    assert len(curve) < 200
    assert "the loss rose" in curve.settings["endings"][0]


def test_it_stops_at_a_loss_that_is_not_finite() -> None:
    trial = Quadratic()
    losses = iter([1.0] * 23 + [math.nan] * 100)
    trial.step = lambda: next(losses)  # type: ignore[method-assign]
    curve = oc.range_test(trial, steps=60)
    assert len(curve) == 30  # the block of ten is read as a whole
    assert curve.settings["endings"] == ["the loss was nan at step 23"]


def fall_and_rise() -> list[float]:
    down = [1.0] * 20 + [1.0 - i / 20 for i in range(20)]
    return down + [0.05 + i / 10 for i in range(30)]


def first_stop(losses: list[float]) -> int | None:
    return next((n for n in range(10, len(losses) + 1) if Stop().after(losses[:n]) is not None), None)


def test_it_stops_once_the_loss_has_risen_above_its_beginning_by_all_it_had_fallen() -> None:
    # begin 1, least running median 0.1: stop where the running median of five passes 1.9
    assert first_stop(fall_and_rise()) == 62


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [-100.0, 0.0, 100.0])
def test_no_scale_sign_or_offset_moves_the_stop(scale: float, offset: float) -> None:
    assert first_stop([scale * (loss + offset) for loss in fall_and_rise()]) == 62


def test_noise_does_not_stop_it() -> None:
    noise = np.random.default_rng(0).normal(size=2000)
    assert Stop().after(noise.tolist()) is None
    assert Stop().after([2.0] * 500) is None


def test_a_short_record_does_not_stop_it() -> None:
    assert Stop().after([1.0] * 10 + [50.0] * 9) is None
    assert Stop().after([1.0] * 10 + [50.0] * 10) is not None


def test_the_reason_names_the_first_loss_that_is_not_finite() -> None:
    assert Stop().after([1.0, -math.inf, math.nan]) == "the loss was -inf at step 1"
    assert Stop().after([1.0] * 10 + [50.0] * 10) == "the loss rose 49 above its beginning"


# Bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1.0}, r"^start must be a finite number >= 0 in single precision, got -1\.0$"),
        ({"end": math.inf}, r"^end must be a finite number >= 0 in single precision, got inf$"),
        ({"end": math.nan}, r"^end must be a finite number >= 0 in single precision, got nan$"),
        ({"start": "1"}, r"^start must be a finite number >= 0 in single precision, got '1'$"),
        ({"start": 1.0, "end": 1.0}, r"^start must be below end, got start=1 and end=1$"),
        ({"start": 2.0, "end": 1.0}, r"^start must be below end, got start=2 and end=1$"),
        ({"start": 0.0}, r"^start must be > 0 for an exponential sweep, got 0: use sweep='linear'$"),
        ({"steps": 9}, r"^steps must be a whole number >= 10, got 9: a curve needs points$"),
        ({"steps": 20.0}, r"^steps must be a whole number >= 10, got 20\.0: a curve needs points$"),
        ({"repeats": 0}, r"^repeats must be a whole number >= 1, got 0$"),
        ({"repeats": "2"}, r"^repeats must be a whole number >= 1, got '2'$"),
        ({"batches_per_value": 1.5}, r"^batches_per_value must be a whole number >= 1, got 1\.5$"),
        ({"seed": -1}, r"^seed must be a whole number >= 0, got -1$"),
        ({"seed": None}, r"^seed must be a whole number >= 0, got None$"),
        ({"batches_per_value": 0}, r"^batches_per_value must be a whole number >= 1, got 0$"),
        ({"evaluations": -1}, r"^evaluations must be a whole number >= 0, got -1$"),
        ({"sweep": "log"}, r"^sweep must be 'exponential' or 'linear', got 'log'$"),
        ({"hyper": "beta"}, r"^hyper must be 'lr', 'momentum' or 'weight_decay', got 'beta'$"),
        ({"hyper": "momentum"}, r"^end must be below 1 for momentum, got 10: try start=0\.5, end=0\.99$"),
    ],
)
def test_bad_input_is_named_and_touches_nothing(arguments: dict[str, Any], message: str) -> None:
    trial = Quadratic()
    with pytest.raises(ValueError, match=message):
        oc.range_test(trial, **arguments)
    assert trial.used == []


def test_what_is_no_trial_is_named() -> None:
    with pytest.raises(TypeError, match=r"^trial must be a Trial, such as onecycle\.torch\.Trial, got int$"):
        oc.range_test(3)  # type: ignore[arg-type]


def test_numpy_s_numbers_are_numbers() -> None:
    numbers: dict[str, Any] = {"start": np.float32(0.5), "steps": np.int64(20), "seed": np.int64(3)}
    curve = oc.range_test(Quadratic(), end=1.0, **numbers)
    assert curve == oc.range_test(Quadratic(), start=0.5, end=1.0, steps=20, seed=3)
