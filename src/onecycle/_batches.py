"""Batches for a trial of a framework that has no loader of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Batches = Iterable[Any] | Callable[[int], Iterable[Any]]


class Generator(NamedTuple):
    """A global random generator: how to read, set and seed it."""

    get: Callable[[], Any]
    set: Callable[[Any], None]
    seed: Callable[[int], Any]


GLOBAL = (
    Generator(random.getstate, random.setstate, random.seed),
    Generator(np.random.get_state, np.random.set_state, lambda seed: np.random.seed(seed % 2**32)),  # noqa: NPY002 - users' loaders use it
)


class Place(NamedTuple):
    """Where a stream stands: the epoch, batches taken of it, and the generators at its start and now."""

    seed: int
    epoch: int
    taken: int
    start: list[Any]
    now: list[Any]


class Stream:
    """Batches without end, epoch after epoch, whose place can be kept and found again.

    To find a place again, its epoch is begun anew and the batches taken are passed over.

    Args:
        batches: an iterable that can be begun anew, or a function that is given an int, another one at
            each epoch, and returns an iterable: the place to shuffle.
        generators: the global random generators to keep; Python's and NumPy's are kept always.

    Raises:
        TypeError: `batches` is neither, or an iterator, whose batches could not be put back.
    """

    def __init__(self, batches: Batches, generators: Sequence[Generator] = ()) -> None:
        if isinstance(batches, Iterator) or not (isinstance(batches, Iterable) or callable(batches)):
            raise TypeError(
                f"batches must be an iterable that can be begun anew, such as a list, or a function from a "
                f"seed to one, got {type(batches).__name__}"
            )
        self._batches = batches
        self._generators = (*GLOBAL, *generators)
        self._epoch_iterator: Iterator[Any] | None = None
        self._seed = self._epoch = self._taken = 0
        self._start: list[Any] = []

    def __next__(self) -> Any:
        if self._epoch_iterator is None:
            self._find()
        assert self._epoch_iterator is not None
        try:
            batch = next(self._epoch_iterator)
        except StopIteration:
            self._epoch, self._taken = self._epoch + 1, 0
            self._begin()
            try:
                batch = next(self._epoch_iterator)
            except StopIteration:
                raise ValueError("batches gave no batch: it is empty") from None
        self._taken += 1
        return batch

    def seed(self, seed: int) -> None:
        """Seed the generators; the next batch starts the first epoch of this seed."""
        self._seed, self._epoch, self._taken, self._epoch_iterator = seed, 0, 0, None
        for generator in self._generators:
            generator.seed(seed)

    def random(self) -> list[Any]:
        """The state of every generator."""
        return [generator.get() for generator in self._generators]

    def put_back_random(self, states: list[Any]) -> None:
        """Put back what `random` gave."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.set(state)

    def keep(self) -> Place:
        """The present place."""
        return Place(self._seed, self._epoch, self._taken, self._start, self.random())

    def put_back(self, place: Place) -> None:
        """Go to the place that `keep` kept; the batches are looked for when the next one is wanted."""
        self._seed, self._epoch, self._taken, self._start, now = place
        self._epoch_iterator = None
        self.put_back_random(now)

    def _find(self) -> None:
        if not self._taken:
            self._begin()
            return
        now, taken = self.random(), self._taken
        self.put_back_random(self._start)
        self._begin()
        for _ in range(taken):
            next(self._epoch_iterator)  # type: ignore[arg-type]
        self.put_back_random(now)

    def _begin(self) -> None:
        self._start = self.random()
        batches: Any = self._batches
        if not isinstance(batches, Iterable):
            seed = np.random.SeedSequence((self._seed, self._epoch)).generate_state(1)[0]
            batches = batches(int(seed))
        self._epoch_iterator = iter(batches)


def samples(leaves: Sequence[Any]) -> int:
    """Samples of a batch: the length of the first array among its `leaves`, 1 where there is none."""
    return next((int(leaf.shape[0]) for leaf in leaves if getattr(leaf, "shape", ())), 1)
