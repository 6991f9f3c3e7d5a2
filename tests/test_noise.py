"""The gradient noise scale from gradients and from norms at two batch sizes; where it does not tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onecycle._noise import NoiseScale
from onecycle._schedules import Array

NUMBERS = 200
rows, norms = NoiseScale.from_gradients, NoiseScale.from_norms


def spread() -> Array:
    """Variances of the numbers of a sample's gradient, unequal as in a net; their sum is 1."""
    variance: Array = 1 / np.arange(1.0, NUMBERS + 1)
    return np.asarray(variance / variance.sum())


def gradients(noise_scale: float, batches: int, size: int, seed: int) -> Array:
    """Gradients of batches of `size`, where `noise_scale` is true."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(NUMBERS)
    mean *= math.sqrt(1 / noise_scale) / np.linalg.norm(mean)
    return mean + rng.standard_normal((batches, NUMBERS)) * np.sqrt(spread() / size)


def test_literal_case() -> None:
    found = NoiseScale.from_gradients([[3.0], [1.0], [3.0], [1.0]], [2, 2, 2, 2])
    # The mean is 2; the variance over batches 4/3, so of a sample 8/3; |G|² = 4 - (8/3)/8.
    assert found.noise == pytest.approx(8 / 3)
    assert found.signal == pytest.approx(11 / 3)
    assert found.value == pytest.approx(8 / 11)
    assert found.samples == 8


def test_a_whole_epoch_knows_its_mean_gradient() -> None:
    found = NoiseScale.from_gradients([[3.0], [1.0], [3.0], [1.0]], [2, 2, 2, 2], population=8)
    assert found.signal == pytest.approx(4.0)


@pytest.mark.parametrize("true", [20, 200, 2000])
def test_interval_holds_the_true_value_19_times_in_20(true: float) -> None:
    found = [NoiseScale.from_gradients(gradients(true, 32, 64, seed), [64] * 32) for seed in range(200)]
    assert np.mean([each.low <= true <= each.high for each in found]) >= 0.92
    assert np.median([each.value for each in found]) == pytest.approx(true, rel=0.1)
    assert np.mean([each.tells for each in found]) >= (0.6 if true == 2000 else 1)  # of 2,048 samples


def test_batches_of_unequal_size_count_by_their_samples() -> None:
    sizes = [16] * 16 + [64] * 16
    found = [
        NoiseScale.from_gradients(
            np.concatenate([gradients(100, 16, 16, seed), gradients(100, 32, 64, seed)[16:]]), sizes
        )
        for seed in range(100)
    ]
    assert np.mean([each.noise for each in found]) == pytest.approx(1, rel=0.02)
    assert np.mean([each.signal for each in found]) == pytest.approx(0.01, rel=0.05)


def test_drawing_without_replacement_is_allowed_for() -> None:
    rng = np.random.default_rng(0)
    samples = gradients(100, 512, 1, 0)
    mean = samples.mean(0)
    true = ((samples - mean) ** 2).sum() / 511, mean @ mean
    draws = []
    for _ in range(200):
        chosen = rng.permutation(512)[:256].reshape(32, 8)
        found = NoiseScale.from_gradients(samples[chosen].mean(1), [8] * 32, population=512)
        draws.append((found.noise, found.signal))
    assert np.mean(draws, axis=0) == pytest.approx(true, rel=0.02)


def test_two_batch_sizes_give_the_same() -> None:
    found = []
    for seed in range(100):
        small = gradients(50, 160, 8, seed)
        large = small.reshape(40, 4, -1).mean(1)
        norms = (small**2).sum(1).reshape(40, 4).mean(1), (large**2).sum(1)
        found.append(NoiseScale.from_norms(*norms, small_size=8, large_size=32))
    assert np.mean([each.noise for each in found]) == pytest.approx(1, rel=0.02)
    assert np.mean([each.signal for each in found]) == pytest.approx(1 / 50, rel=0.03)
    assert np.mean([each.low <= 50 <= each.high for each in found]) >= 0.9
    assert found[0].samples == 40 * 32


def test_averages_come_before_the_ratio() -> None:
    # Pairs whose own ratios are 1, 3, infinite, and below zero.
    found = NoiseScale.from_norms([2, 4, 1, 0], [1.5, 2.5, 0.5, 0.5], small_size=1, large_size=2)
    assert found.noise == pytest.approx(np.mean([1, 3, 1, -1]))
    assert found.signal == pytest.approx(np.mean([1, 1, 0, 1]))
    assert found.value == pytest.approx(4 / 3)


def test_no_signal_is_told_as_such() -> None:
    found = NoiseScale.from_gradients(np.random.default_rng(0).standard_normal((32, 50)), [4] * 32)
    assert not found.tells
    assert found.high == math.inf
    assert found.low > 100
    assert "the noise scale is above" in found.reason
    assert "measure over more batches" in found.reason


def test_signal_estimated_below_zero_still_bounds_from_below() -> None:
    quiet = np.concatenate([np.eye(8), -np.eye(8)])  # a mean that is zero exactly
    found = NoiseScale.from_gradients(quiet, [4] * 16)
    assert found.signal < 0
    assert found.value == math.inf
    assert found.low == pytest.approx(64 / 8**0.5)
    assert not found.tells


def test_no_noise_is_a_noise_scale_of_zero() -> None:
    found = NoiseScale.from_gradients(np.ones((8, 3)), [4] * 8)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert found.efficiency(1) == 0


@pytest.mark.parametrize(
    ("gradients", "reason"),
    [(np.zeros((8, 3)), "the gradient is zero"), (np.full((8, 3), np.nan), "a gradient is not finite")],
)
def test_what_cannot_be_told_says_why(gradients: Array, reason: str) -> None:
    found = NoiseScale.from_gradients(gradients, [4] * 8)
    assert not found.tells
    assert math.isnan(found.value)
    assert found.low == 0
    assert reason in found.reason


def test_norms_that_are_not_finite_say_so() -> None:
    assert "a norm is not finite" in NoiseScale.from_norms([1, 2, math.inf, 1], [1, 1, 1, 1], 1, 2).reason


def test_efficiency_is_half_at_the_noise_scale() -> None:
    found = NoiseScale(100, 80, 120, 1, 0.01, 1000, "")
    assert found.efficiency(100) == 0.5
    assert found.efficiency(300) == 0.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rows(np.ones((3, 2)), [1] * 3), "those of at least 4 batches, got 3"),
        (
            lambda: rows(np.ones((4, 2)), [1] * 3),
            "sizes must be a number of samples > 0 for each",
        ),
        (
            lambda: rows(np.ones((4, 2)), [1, 1, 1, 0]),
            "sizes must be a number of samples > 0",
        ),
        (
            lambda: rows(np.ones((4, 2)), [2] * 4, 7),
            "population must be >= 8, .* got 7",
        ),
        (
            lambda: norms([1, 2, 3], [1, 2, 3], 1, 2),
            "at least 4 squared norms each, in pairs",
        ),
        (lambda: norms([1] * 4, [1] * 5, 1, 2), r"got shapes \(4,\) and \(5,\)"),
        (
            lambda: norms([1] * 4, [1] * 4, 2, 2),
            "small_size must be > 0 and < large_size",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
