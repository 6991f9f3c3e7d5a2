"""The gradient noise scale: how many samples a batch needs before its gradient is more signal than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from onecycle._schedules import Array

WIDTH = 2.0  # of the interval, in standard errors on either side
FEWEST = 4  # gradients, under which their spread tells nothing


@dataclass(frozen=True)
class NoiseScale:
    """The batch size at which noise and signal of the gradient are equal, and how well that is known.

    `B_simple = trace(covariance of a sample's gradient) / |mean gradient|²`, McCandlish et al. 2018
    (arXiv 1812.06162), section 2.2. Where it cannot be told, `high` is infinite and `low` is all that
    the gradients say.

    Attributes:
        value: the noise scale in samples; infinite where the mean gradient is not told from zero.
        low, high: about 95 % of measurements hold the true value between them.
        noise: trace of the covariance of one sample's gradient.
        signal: squared norm of the mean gradient; an unbiased estimate, which can be below 0.
        samples: samples whose gradients were computed.
        reason: one sentence.
    """

    value: float
    low: float
    high: float
    noise: float
    signal: float
    samples: int
    reason: str

    @property
    def tells(self) -> bool:
        """Whether the noise scale is known from both sides."""
        return math.isfinite(self.high)

    def efficiency(self, size: float) -> float:
        """Progress that a sample makes in batches of `size`, as a share of what it makes in small ones."""
        return 1 / (1 + size / self.value) if self.value > 0 else 0.0

    @staticmethod
    def from_gradients(
        gradients: ArrayLike, sizes: Sequence[int], population: int | None = None
    ) -> NoiseScale:
        """The noise scale from the gradients of disjoint batches at one and the same point.

        What McCandlish's two batch sizes tell (appendix A.1), a batch and all of them together, is here the
        unbiased variance over the batches. The interval is Fieller's, of a ratio, with a jackknife's errors.

        Args:
            gradients: mean gradient of each batch, or the same linear map of each; shape (batches, numbers).
            sizes: samples of each batch.
            population: samples that the batches are drawn from without replacement, such as a training set;
                None: without end. It decides which mean gradient is meant: that over these samples.

        Raises:
            ValueError: fewer than four batches, or sizes that do not fit.
        """
        g, b = np.asarray(gradients, np.float64), np.asarray(sizes, np.float64)
        if g.ndim != 2 or b.shape != g.shape[:1] or not (b > 0).all():
            raise ValueError(
                f"sizes must be a number of samples > 0 for each row of gradients, got {len(b)} of them and "
                f"gradients of shape {g.shape}"
            )
        k, n = len(b), b.sum()
        if k < FEWEST:
            raise ValueError(f"gradients must be those of at least {FEWEST} batches, got {k}")
        if population is not None and population < n:
            raise ValueError(f"population must be >= {n:.0f}, the samples of all batches, got {population}")
        share = 0.0 if population is None else 1 / population
        if not np.isfinite(g).all():
            return _unknown(int(n), "a gradient is not finite: measure before training diverges")
        total = b @ g
        norms, dots = (g * g).sum(1), g @ total

        def estimates(samples: Array, mean: Array, squares: Array, batches: int) -> Array:
            noise = (squares - samples * mean) / (batches - 1)
            return np.stack([noise, mean - noise * (1 / samples - share)])

        found = estimates(n, total @ total / n**2, b @ norms, k)
        rest = n - b
        means = (total @ total - 2 * b * dots + b**2 * norms) / rest**2
        without = estimates(rest, means, b @ norms - b * norms, k - 1)
        return _ratio(found, np.cov(without, bias=True) * (k - 1), int(n), f"{k} batches")

    @staticmethod
    def from_norms(
        small: ArrayLike, large: ArrayLike, small_size: float, large_size: float, samples: int | None = None
    ) -> NoiseScale:
        """The noise scale from squared gradient norms at two batch sizes, as a log of training may hold them.

        McCandlish et al. 2018, appendix A.1: numerator and denominator are averaged over the pairs, each for
        itself, before they are divided.

        Args:
            small, large: squared norms of gradients of the two sizes, in pairs; shape (pairs,). One of
                `small` may be a mean of several, such as over the workers that the large one is of.
            small_size, large_size: samples in each.
            samples: samples that were looked at; None: `large_size` a pair.

        Raises:
            ValueError: fewer than four pairs, or the first size is not below the second.
        """
        s, g = np.asarray(small, np.float64), np.asarray(large, np.float64)
        if s.ndim != 1 or s.shape != g.shape or len(s) < FEWEST:
            raise ValueError(
                f"small and large must be at least {FEWEST} squared norms each, in pairs, "
                f"got shapes {s.shape} and {g.shape}"
            )
        if not 0 < small_size < large_size:
            raise ValueError(f"small_size must be > 0 and < large_size, got {small_size} and {large_size}")
        count = round(large_size * len(s)) if samples is None else samples
        if not (np.isfinite(s).all() and np.isfinite(g).all()):
            return _unknown(count, "a norm is not finite: measure before training diverges")
        pairs = np.stack(
            [
                (s - g) / (1 / small_size - 1 / large_size),
                (large_size * g - small_size * s) / (large_size - small_size),
            ]
        )
        return _ratio(pairs.mean(1), np.cov(pairs) / len(s), count, f"{len(s)} pairs")


def _ratio(found: Array, covariance: Array, samples: int, source: str) -> NoiseScale:
    """The first of two estimates over the second, with Fieller's interval."""
    noise, signal = map(float, found)
    if noise <= 0 and signal <= 0:
        return _unknown(samples, "the gradient is zero: there is nothing to learn here")
    noise = max(noise, 0.0)
    low, high = _fieller(noise, signal, covariance * WIDTH**2)
    if math.isinf(low):  # no error was seen: that of nothing but noise in one direction is the largest
        low = samples / (WIDTH * math.sqrt(2))
    value = noise / signal if signal > 0 else math.inf
    text = f"{samples} samples in {source}: "
    if math.isfinite(high):
        reason = f"{text}noise and signal are equal at a batch of {value:.3g} ({low:.3g} to {high:.3g})"
    else:
        reason = (
            f"{text}the mean gradient is not told from zero, the noise scale is above {low:.3g} at least: "
            "measure over more batches"
        )
    return NoiseScale(value, low, high, noise, signal, samples, reason)


def _fieller(top: float, bottom: float, c: Array) -> tuple[float, float]:
    """The ratios r >= 0 for which `top - r * bottom` is within its error, whose square is in `c`."""
    bottom = max(bottom, 0.0)  # which it is, however it was measured
    a = bottom**2 - float(c[1, 1])
    b = top * bottom - float(c[0, 1])
    d = top**2 - float(c[0, 0])
    root = math.sqrt(max(b * b - a * d, 0.0))
    if a > 0:
        return max((b - root) / a, 0.0), (b + root) / a
    if d <= 0:  # zero noise is within the error too
        return 0.0, math.inf
    # Of the two roots one is negative here; b + root is what is left of it where a is 0.
    return (d / (b + root) if b + root > 0 else math.inf), math.inf


def _unknown(samples: int, reason: str) -> NoiseScale:
    return NoiseScale(math.nan, 0.0, math.inf, math.nan, math.nan, samples, reason)
