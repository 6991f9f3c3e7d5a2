"""Searching sizes, the knee of the speed, and what follows for rate and decay."""

from __future__ import annotations

import math

import pytest

from onecycle._batch_size import (
    BatchSizes,
    Fits,
    Run,
    doubled,
    kind_of,
    knee,
    largest,
    rate_factor,
    together,
)
from onecycle._noise import NoiseScale

GIB = 2**30


def up_to(most: int) -> list[int]:
    """The sizes that are run where `most` samples fit; the last entry is the answer."""
    found = largest(lambda size: Run(size, size <= most, size * 2**20), 8, 1000, GIB)
    return [*(run.size for run in found.tried), found.size]


def noise(value: float) -> NoiseScale:
    return NoiseScale(value, value / 1.3, value * 1.3, 1, 1 / value, 1000, "")


UNKNOWN = NoiseScale(math.inf, 50, math.inf, 1, 0, 1000, "")
FITS = Fits(256, None, 0.1, (), "")


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (2000, [8, 16, 32, 64, 128, 256, 512, 1000, 1000]),
        (100, [8, 16, 32, 64, 128, 96, 112, 104, 96]),
        (64, [8, 16, 32, 64, 128, 96, 80, 72, 64]),
        (8, [8, 16, 12, 10, 9, 8]),
        (3, [8, 4, 2, 3, 3]),
        (1, [8, 4, 2, 1, 1]),
    ],
)
def test_sizes_double_then_are_bisected(most: int, sizes: list[int]) -> None:
    assert up_to(most) == sizes


@pytest.mark.parametrize("most", [*range(1, 40), 77, 255, 513, 999])
def test_the_answer_was_run_and_is_within_an_eighth(most: int) -> None:
    *tried, answer = up_to(most)
    assert answer in tried
    assert answer <= most
    assert most - answer < max(answer / 8, 1)


def test_what_fits_is_said_with_what_did_not() -> None:
    def run(size: int) -> Run:
        return Run(size, size <= 100, 2**29, None if size <= 100 else "out of memory")

    assert largest(run, 8, 1000, GIB).reason == (
        "a batch of 96 ran and took 512 MiB of 1 GiB; one of 104 did not fit with 10% left free"
    )
    assert largest(run, 8, 50, GIB).reason == (
        "a batch of 50, the largest that was asked for, ran and took 512 MiB of 1 GiB"
    )
    assert largest(lambda size: Run(size, True), 8, 50).reason == (
        "a batch of 50, the largest that was asked for, ran"
    )


def test_nothing_fits() -> None:
    with pytest.raises(MemoryError, match="no batch fits into 1 GiB, not even one sample: too large"):
        largest(lambda size: Run(size, False, None, "too large"), 8, 1000, GIB)


def test_knee_is_the_smallest_size_at_nine_tenths() -> None:
    fast = knee([(8, 100.0), (16, 190.0), (32, 340.0), (64, 370.0), (128, 372.0)])
    assert fast.size == 32
    assert fast.reason == (
        "a batch of 32 reaches 340 samples per second, 91% of the most there is, 372 at 128"
    )


def test_speed_that_still_grows_is_said() -> None:
    fast = knee([(8, 100.0), (16, 200.0)])
    assert fast.size == 16
    assert "larger ones may be faster yet" in fast.reason


def test_soonest_weighs_speed_against_noise() -> None:
    fast = knee([(8, 100.0), (32, 400.0), (128, 1000.0), (256, 1050.0)])
    # (size + noise) / speed, for 10: 0.18, 0.105, 0.138, 0.253; for 1000: 10.1, 2.58, 1.13, 1.20
    assert together(FITS, fast, noise(10), "sgd", 0).size == 32
    assert together(FITS, fast, noise(1000), "sgd", 0).size == 128
    assert together(FITS, fast, noise(10), "sgd", 0).reason == (
        "batches of 32 reach a given loss soonest, within a tenth; "
        "those of 256 would take 2.4 times as long as the best"
    )


def test_without_a_noise_scale_the_fast_size_is_taken() -> None:
    found = together(FITS, knee([(8, 100.0), (32, 400.0)]), UNKNOWN, "sgd", 0)
    assert found.size == 32
    assert found.reason == "32, the smallest fast one: how large a batch is useful could not be told"


@pytest.mark.parametrize(
    ("new", "value", "optimizer", "factor"),
    [
        (128, None, "sgd", 2),
        (128, math.inf, "sgd", 2),
        (128, 64.0, "sgd", 2 / 1.5),
        (128, 1e-9, "sgd", 1),
        (128, 0.0, "sgd", 1),
        (256, None, "adam", 2),
        (32, 1e9, "sgd", 0.5),
        (128, 64.0, "adam", math.sqrt(2 / 1.5)),
    ],
)
def test_rate_follows_the_batch_up_to_the_noise_scale(
    new: int, value: float | None, optimizer: str, factor: float
) -> None:
    assert rate_factor(64, new, value, optimizer) == pytest.approx(factor)  # type: ignore[arg-type]  # a str


def test_consequence_keeps_what_decay_forgets_in_an_epoch() -> None:
    found = BatchSizes(FITS, knee([(64, 1.0)]), noise(64), 128, "", "sgd", 0)
    assert found.rate_factor(64, 128) * found.decay_factor(64, 128) == pytest.approx(2)
    assert found.consequence(64) == (
        "from batches of 64 to 128: learning rate times 1.33, weight decay times 1.5 "
        "(SGD: in proportion to the batch, and not beyond the noise scale)"
    )
    unknown = BatchSizes(FITS, knee([(64, 1.0)]), UNKNOWN, 128, "", "adam", 0)
    assert unknown.consequence(64, 256) == (
        "from batches of 64 to 256: learning rate times 2, weight decay times 2 "
        "(Adam and its like: with the square root of the batch, and not beyond the noise scale)"
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("SGD", "sgd"), ("AdamW", "adam"), ("RMSprop", "adam"), ("Muon+AdamW", "adam"), ("LBFGS", "sgd")],
)
def test_kind_of_optimizer(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_doubled_ends_with_the_largest() -> None:
    assert doubled(8, 50) == [8, 16, 32, 50]
    assert doubled(8, 8) == [8]
    assert doubled(8, 64) == [8, 16, 32, 64]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 1.0, "sgd"), "old must be > 0"),
        ((1, 1, -1.0, "sgd"), "noise must be >= 0 or None, got -1"),
        ((1, 1, None, "lion"), "optimizer must be 'sgd' or 'adam', got 'lion'"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[float, float, float, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rate_factor(*arguments)  # type: ignore[arg-type]  # wrong on purpose
