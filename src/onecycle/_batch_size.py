"""Which batch size: what fits into memory, what is fast, what is useful, each asked for itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from onecycle._arguments import as_rate, as_share, as_whole
from onecycle._noise import NoiseScale

Kind = Literal["sgd", "adam"]
START = 8  # the first size tried
NEAR = 1.1  # times the shortest time, or the plateau under it: what counts as reached
# Optimizers that divide by the size of the gradient: their steps do not grow with it.
ADAPTIVE = ("Ada", "RMSprop", "Rprop", "Lion", "Muon", "SOAP", "Shampoo")


@dataclass(frozen=True)
class Run:
    """What happened at one batch size.

    Attributes:
        size: samples in a batch.
        fits: whether its steps ran, within the limit less its margin.
        memory: bytes in use at the peak, None where that is not known.
        error: the message of the error that ended it.
    """

    size: int
    fits: bool
    memory: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Fits:
    """What fits.

    Attributes:
        size: the largest batch that ran within the limit less its margin; never one that was not run.
        limit: bytes that there are, None where that is not known.
        margin: share of it that is left free.
        tried: every size, in the order in which they were run.
        reason: one sentence.
    """

    size: int
    limit: int | None
    margin: float
    tried: tuple[Run, ...]
    reason: str


@dataclass(frozen=True)
class Fast:
    """What is fast.

    Attributes:
        size: the smallest batch that reaches nine tenths of the greatest throughput.
        tried: (size, samples per second), by size.
        reason: one sentence.
    """

    size: int
    tried: tuple[tuple[int, float], ...]
    reason: str


@dataclass(frozen=True)
class BatchSizes:
    """Three answers, and what follows from them together.

    Attributes:
        fits, fast, useful: the answers.
        size: of the sizes whose speed was measured the one that reaches a given loss soonest, the smallest
            where several come within a tenth of it.
        reason: one sentence on `size`.
        optimizer: "adam" for all that divide by the gradient's size, else "sgd": which rule the rate obeys.
        samples: samples that were trained on, or whose gradient was computed, to find this out.
    """

    fits: Fits
    fast: Fast
    useful: NoiseScale
    size: int
    reason: str
    optimizer: Kind
    samples: int

    def rate_factor(self, old: float, new: float) -> float:
        """What to multiply a rate that is right for batches of `old` by, for batches of `new`.

        See `rate_factor`; with the noise scale that was measured.
        """
        return rate_factor(old, new, self.useful.value if self.useful.tells else None, self.optimizer)

    def decay_factor(self, old: float, new: float) -> float:
        """What to multiply a weight decay by along with `rate_factor`: it forgets as much in an epoch."""
        return new / old / self.rate_factor(old, new)

    def consequence(self, old: int, new: int | None = None) -> str:
        """What a change of the batch size from `old` to `new` (None: `size`) asks for, in one sentence."""
        to = self.size if new is None else new
        return (
            f"from batches of {old} to {to}: learning rate times {self.rate_factor(old, to):.3g}, "
            f"weight decay times {self.decay_factor(old, to):.3g} ({RULES[self.optimizer]})"
        )


RULES: dict[Kind, str] = {
    "sgd": "SGD: in proportion to the batch, and not beyond the noise scale",
    "adam": "Adam and its like: with the square root of the batch, and not beyond the noise scale",
}


def kind_of(optimizer: str) -> Kind:
    """Which rule the rate of an optimizer obeys, by the name of its class."""
    return "adam" if any(name in optimizer for name in ADAPTIVE) else "sgd"


def rate_factor(old: float, new: float, noise: float | None, optimizer: Kind = "sgd") -> float:
    """What to multiply a learning rate that is right for batches of `old` by, for batches of `new`.

    The best rate of SGD is `max / (1 + noise / size)` (McCandlish et al. 2018, equation 2.10): in proportion
    to the size far below the noise scale (Goyal et al. 2017), constant far above. That of Adam is taken to
    grow with the square root of the same (Malladi et al. 2022; McCandlish found powers from 0.5 to 1).

    Args:
        old, new: samples in a batch.
        noise: the noise scale in samples; None, where it is not known: far above both.
        optimizer: "sgd" or "adam".

    Raises:
        ValueError: an argument is out of its range.
    """
    old, new = as_rate("old", old), as_rate("new", new)
    if optimizer not in RULES:
        raise ValueError(f"optimizer must be 'sgd' or 'adam', got {optimizer!r}")
    if noise is None or math.isinf(noise):
        factor = new / old
    elif noise >= 0:
        factor = (1 + noise / old) / (1 + noise / new)
    else:
        raise ValueError(f"noise must be >= 0 or None, got {noise}")
    return factor if optimizer == "sgd" else math.sqrt(factor)


def largest(
    run: Callable[[int], Run], start: int, most: int, limit: int | None = None, margin: float = 0.1
) -> Fits:
    """The largest size up to `most` that runs: doubled from `start`, halved below it, then bisected.

    Bisection ends where the sizes that fit and that do not are within an eighth of one another.

    Raises:
        MemoryError: nothing fits, a batch of one included.
    """
    most = as_whole("most", most)
    size = min(as_whole("start", start), most)
    margin = as_share("margin", margin)
    tried: list[Run] = []

    def fits(size: int) -> bool:
        tried.append(run(size))
        return tried[-1].fits

    good, bad = 0, most + 1
    while good < size < bad:
        if fits(size):
            good = size
            size = min(2 * size, most)
        else:
            bad = size
            size = size // 2
    if good == 0:
        raise MemoryError(f"no batch fits into {_bytes(limit)}, not even one sample: {tried[-1].error}")
    while bad <= most and bad - good > max(good // 8, 1):
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    best = next(each for each in tried if each.size == good)
    memory = "" if best.memory is None else f" and took {_bytes(best.memory)} of {_bytes(limit)}"
    if bad > most:
        reason = f"a batch of {good}, the largest that was asked for, ran{memory}"
    else:
        reason = f"a batch of {good} ran{memory}; one of {bad} did not fit with {margin:.0%} left free"
    return Fits(good, limit, margin, tuple(tried), reason)


def knee(measured: Iterable[tuple[int, float]]) -> Fast:
    """The smallest size whose throughput, in samples per second, is nine tenths of the greatest."""
    tried = tuple(sorted(measured))
    size, speed = max(tried, key=lambda pair: pair[1])
    small, reached = next(pair for pair in tried if pair[1] * NEAR >= speed)
    reason = f"a batch of {small} reaches {reached:.4g} samples per second"
    if small != size:
        reason += f", {reached / speed:.0%} of the most there is, {speed:.4g} at {size}"
    if small == tried[-1][0] and len(tried) > 1:
        reason += ", the most there is; larger ones may be faster yet"
    return Fast(small, tried, reason)


def together(fits: Fits, fast: Fast, useful: NoiseScale, optimizer: Kind, samples: int) -> BatchSizes:
    """Join the answers: updates needed go with `1 + noise / size`, and each takes `size / speed` seconds."""
    if not useful.tells:
        reason = f"{fast.size}, the smallest fast one: how large a batch is useful could not be told"
        return BatchSizes(fits, fast, useful, fast.size, reason, optimizer, samples)
    times = [((size + useful.value) / speed, size) for size, speed in fast.tried]
    shortest, _ = min(times)
    _, size = next(each for each in times if each[0] <= NEAR * shortest)
    longest, slowest = max(times)
    reason = f"batches of {size} reach a given loss soonest, within a tenth"
    if longest > NEAR * shortest:
        reason += f"; those of {slowest} would take {longest / shortest:.2g} times as long as the best"
    return BatchSizes(fits, fast, useful, size, reason, optimizer, samples)


def doubled(start: int, largest: int) -> Sequence[int]:
    """Sizes from `start` by doubling, and the largest."""
    sizes = [start]
    while 2 * sizes[-1] <= largest:
        sizes.append(2 * sizes[-1])
    return sizes if sizes[-1] == largest else [*sizes, largest]


def _bytes(count: int | None) -> str:
    if count is None:
        return "the memory there is"
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.4g} {unit}"
