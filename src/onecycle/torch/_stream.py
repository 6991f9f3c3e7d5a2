from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from onecycle.torch._state import (
    Tree,
    find_generators,
    keep_attributes,
    keep_random,
    put_back_attributes,
    put_back_random,
    seed_random,
)


class Stream:
    """Batches without end, epoch after epoch, whose place can be kept and found again.

    A place is how the random sources stood at the start of the epoch, and the count of batches taken
    since: to find it again, the epoch is begun anew and that many batches are passed over.

    Args:
        loader: any iterable of batches. An iterator is used up as it goes, and what is taken from it
            cannot be given back, which a warning says.
        model_parts: where else to look for random generators.
    """

    def __init__(self, loader: Iterable[Any], *model_parts: object) -> None:
        if isinstance(loader, Iterator):
            warnings.warn(
                "train_loader is an iterator: the batches taken from it cannot be put back; "
                "pass the DataLoader or list that it was made from",
                stacklevel=4,
            )
        self._loader = loader
        self._samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
        self._generators = find_generators(loader, *model_parts)
        self._batches: Iterator[Any] | None = None
        self._start: Tree = None
        self._taken = 0

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = self._begin()
        try:
            batch = next(self._batches)
        except StopIteration:
            self._batches = self._begin()
            try:
                batch = next(self._batches)
            except StopIteration:
                raise ValueError(
                    "train_loader gave no batch: it is empty, an iterator that is used up, "
                    "or smaller than one batch with drop_last=True"
                ) from None
        self._taken += 1
        return batch

    def seed(self, seed: int) -> None:
        """Seed every random generator; the next batch starts an epoch."""
        self._batches, self._start, self._taken = None, None, 0
        seed_random(self._generators, seed)

    def keep_sources(self) -> Tree:
        """Every random generator, and what the samplers count."""
        return {
            "samplers": [keep_attributes(sampler) for sampler in self._samplers],
            "random": keep_random(self._generators),
        }

    def put_back_sources(self, tree: Tree) -> None:
        """Put back what `keep_sources` kept."""
        for sampler, attributes in zip(self._samplers, tree["samplers"], strict=True):
            put_back_attributes(sampler, attributes)
        put_back_random(self._generators, tree["random"])

    def keep(self) -> Tree:
        """The present place."""
        return {"start": self._start, "taken": self._taken, "now": self.keep_sources()}

    def put_back(self, tree: Tree) -> None:
        """Go to the place that `keep` kept."""
        self._batches, self._start, self._taken = None, tree["start"], tree["taken"]
        if self._taken:
            self.put_back_sources(self._start)
            self._batches = iter(private(self._loader))
            for _ in range(self._taken):
                next(self._batches)
        self.put_back_sources(tree["now"])

    def _begin(self) -> Iterator[Any]:
        self._start = self.keep_sources()
        self._taken = 0
        return iter(private(self._loader))


def private(loader: Iterable[Any]) -> Iterable[Any]:
    """A loader whose persistent workers are its own, so that the user's see nothing of this."""
    if not (isinstance(loader, DataLoader) and loader.persistent_workers):
        return loader
    twin = copy.copy(loader)
    twin._iterator = None
    return twin
