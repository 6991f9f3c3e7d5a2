"""Regret: what a learning rate loses against the best one of a dense grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DIVERGED = 10.0  # times the best loss, which a diverged run counts as


@dataclass(frozen=True, eq=False)
class Oracle:
    """Final losses of a task over a grid of maximum rates.

    The *regret* of a rate is its loss over the grid's best, minus one. The loss is the mean over seeds,
    a run that diverged or ended above ten times the best counts as ten times the best, and between two
    rates of the grid the loss is interpolated in the logarithm of the rate; beyond the grid it is that of
    the grid's end. So regret lies between 0 and 9.

    A negative log density can be negative, has no zero, and moves when the target is measured in other
    units: there the loss that is compared is the inverse density itself, exp(loss), so that the regret
    says by how much less likely the data became.

    The *normalised regret* is (loss - best) / (trivial - best), at most 1, for any loss: the share that
    was missed of what training can bring over the best answer that does not look at the input. It is 1 for
    a diverged run.

    Args:
        rates: rising, shape (grid,).
        losses: final losses, shape (grid, seeds).
        diverged: which runs did, likewise.
        trivial: loss of the best answer that does not look at the input.
        signed: whether the losses are negative log densities.

    Raises:
        ValueError: every rate has a diverged run, or a best loss that should be positive is not.
    """

    rates: Floats
    losses: Floats
    diverged: npt.NDArray[np.bool_]
    trivial: float
    signed: bool = False

    def __post_init__(self) -> None:
        if self.losses.shape != self.diverged.shape or self.losses.shape[:1] != self.rates.shape:
            raise ValueError("losses and diverged must have one row for each rate")
        if self.diverged.any(1).all():
            raise ValueError("a run diverged at every rate: there is no best one")
        if not self.signed and self.best <= 0:
            raise ValueError(f"the best loss must be positive, unless signed, got {self.best:g}")

    @classmethod
    def of(cls, document: Mapping[str, Any], loss: str = "val_loss") -> Oracle:
        """From what was recorded; rates that some seed has yet to run are left out."""
        rows: Sequence[Mapping[str, Any]] = document["rows"]
        seeds = sorted({row["seed"] for row in rows})
        found = {(row["rate"], row["seed"]): row for row in rows}
        rates = sorted({rate for rate, _ in found if all((rate, seed) in found for seed in seeds)})
        table = [[found[rate, seed] for seed in seeds] for rate in rates]
        return cls(
            np.array(rates, dtype=np.float64),
            np.array([[row[loss] for row in line] for line in table], dtype=np.float64),
            np.array([[row["diverged"] for row in line] for line in table], dtype=np.bool_),
            document["trivial_loss"],
            document["signed"],
        )

    # The grid ---------------------------------------------------------------------------------------

    @property
    def best(self) -> float:
        """The least mean loss of the rates at which no run diverged."""
        return float(self._means().min())

    @property
    def best_rate(self) -> float:
        """The rate that it was reached at."""
        return float(self.rates[self._means().argmin()])

    @property
    def noise(self) -> float:
        """Standard error, over seeds, of the regret at the best rate: differences below it mean nothing."""
        at_best = self._relative()[self._means().argmin()]
        return float(at_best.std(ddof=1) / math.sqrt(len(at_best))) if len(at_best) > 1 else math.nan

    @property
    def trains(self) -> bool:
        """Whether the best is below the trivial loss by more than a twentieth of it, or of a nat."""
        return self.trivial - self.best > 0.05 * (1 if self.signed else abs(self.trivial))

    def plateau(self, regret: float = 0.05) -> tuple[float, float]:
        """The lowest and the highest rate, around the best, up to which no regret exceeds this."""
        fine = np.geomspace(self.rates[0], self.rates[-1], 2001)
        good = self.regrets(fine) <= regret
        at = int(np.abs(np.log(fine / self.best_rate)).argmin())
        bad = np.flatnonzero(~good)
        low = int(bad[bad < at].max(initial=-1)) + 1
        high = int(bad[bad > at].min(initial=len(fine))) - 1
        return float(fine[low]), float(fine[high])

    # Of a rate --------------------------------------------------------------------------------------

    def regret(self, rate: float) -> float:
        """Loss at `rate` over the best, minus one."""
        return float(self.regrets([rate])[0])

    def regrets(self, rates: npt.ArrayLike) -> Floats:
        """Likewise of many rates."""
        return np.maximum(self._at(rates, self._relative().mean(1)), 0.0)  # rounding

    def lost(self, loss: float, diverged: bool = False) -> float:
        """What one run that ended with this loss lost against the best; below 0 where it is better."""
        if diverged:
            return DIVERGED - 1
        with np.errstate(over="ignore"):
            ratio = float(np.exp(loss - self.best)) if self.signed else loss / self.best
        return min(ratio, DIVERGED) - 1

    def normalised(self, rate: float) -> float:
        """Share of what training can bring that is missed at `rate`."""
        gain = self.trivial - self.best
        if gain <= 0:
            return 0.0
        share = np.where(self.diverged, 1.0, np.minimum((self.losses - self.best) / gain, 1.0))
        return float(self._at([rate], share.mean(1))[0])

    def diverges(self, rate: float) -> bool:
        """Whether a run diverged at the rate of the grid that is nearest."""
        return bool(self.diverged[np.abs(np.log(self.rates / rate)).argmin()].any())

    def _means(self) -> Floats:
        return np.where(self.diverged.any(1), np.inf, np.where(self.diverged, np.inf, self.losses).mean(1))

    def _relative(self) -> Floats:
        """Regret of each run; the best mean need not be any run's."""
        with np.errstate(over="ignore"):
            ratio = np.exp(self.losses - self.best) if self.signed else self.losses / self.best
        return np.minimum(np.where(self.diverged, DIVERGED, ratio), DIVERGED) - 1

    def _at(self, rates: npt.ArrayLike, values: Floats) -> Floats:
        asked = np.asarray(rates, dtype=np.float64)
        if not (np.isfinite(asked) & (asked > 0)).all():
            raise ValueError(f"a rate must be finite and > 0, got {rates!r}")
        return np.interp(np.log(asked), np.log(self.rates), values)


def summary(regrets: Iterable[float]) -> dict[str, float]:
    """Mean, median, worst and the share of at most 0.05."""
    values = np.array(list(regrets), dtype=np.float64)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "worst": float(values.max()),
        "within_5_percent": float((values <= 0.05).mean()),
    }
