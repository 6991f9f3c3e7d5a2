from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from random import SystemRandom
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from onecycle.torch._objects import find
from onecycle.torch._pipeline import Contents, keep_counters, pipeline, put_back_counters
from onecycle.torch._random import GENERATORS, keep_random, put_back_random, seed_random
from onecycle.torch._state import LEFT_OUT, Tree

END = object()  # of an epoch


class Stream:
    """Batches without end, epoch after epoch, whose place can be kept and found again.

    A place is how the random sources stood at the start of the epoch, and the count of batches taken
    since: to find it again, the epoch is begun anew and that many batches are passed over.

    Args:
        loader: any iterable of batches. An iterator is used up as it goes, and what is taken from it
            cannot be given back, which a warning says.
        others: where else to look for random generators.
    """

    def __init__(self, loader: Iterable[Any], *others: object) -> None:
        if isinstance(loader, Iterator):
            warnings.warn(
                "train_loader is an iterator: the batches taken from it cannot be put back; "
                "pass the DataLoader or list that it was made from",
                stacklevel=3,
            )
        self._loader = loader
        self._parts = pipeline(loader)
        found = find(GENERATORS, loader, *others)
        self._generators = [each for each in found if not isinstance(each, SystemRandom)]  # it has no state
        self._samplers = [p for p in self._parts if isinstance(p, Sampler) and hasattr(p, "set_epoch")]
        if self._samplers:
            self._epochs = torch.Generator()
            self._generators.append(self._epochs)
        self.resumable = True  # whether a place will be asked for before one is put back
        self._batches: Iterator[Any] = iter(())
        self._start: Tree = None
        self._taken = 0

    def __next__(self) -> Any:
        batch = next(self._batches, END)
        if batch is END:
            self._begin()
            batch = next(self._batches, END)
        if batch is END:
            raise ValueError(
                "train_loader gave no batch: it is empty, an iterator that is used up, "
                "or smaller than one batch with drop_last=True"
            )
        self._taken += 1
        return batch

    def seed(self, seed: int) -> None:
        """Seed every random generator; the next batch starts an epoch."""
        self._batches, self._start, self._taken = iter(()), None, 0
        seed_random(self._generators, seed)

    def keep_sources(self) -> Tree:
        """Every random generator, and what loader, samplers and data set count and hold.

        The counters alone can be written to a file.
        """
        return {
            "counters": keep_counters(self._parts),
            "contents": Contents(self._loader),
            "random": keep_random(self._generators),
        }

    def put_back_sources(self, tree: Tree) -> None:
        """Put back what `keep_sources` kept."""
        put_back_counters(self._parts, tree["counters"])
        if (contents := tree.get("contents", LEFT_OUT)) is not LEFT_OUT:
            contents.put_back()
        put_back_random(self._generators, tree["random"])

    def keep(self) -> Tree:
        """The present place.

        Raises:
            RuntimeError: the epoch began while the stream was not resumable.
        """
        if self._taken and self._start is None:
            raise RuntimeError("the place in the data is not known before the state set aside is restored")
        return {"start": self._start, "taken": self._taken, "now": self.keep_sources()}

    def put_back(self, tree: Tree) -> None:
        """Go to the place that `keep` kept.

        Raises:
            ValueError: begun anew, the loader gives fewer batches than had been taken from it.
        """
        self._batches, self.resumable = iter(()), True
        if tree["taken"] and not isinstance(self._loader, Iterator):
            self.put_back_sources(tree["start"])
            self._begin()
            for taken in range(tree["taken"]):
                if next(self._batches, END) is END:
                    raise ValueError(
                        f"train_loader gave {tree['taken']} batches, and begun anew only {taken}: "
                        "it must give as many each time for the data order to be put back"
                    )
        self._start, self._taken = tree["start"], tree["taken"]
        self.put_back_sources(tree["now"])

    def _begin(self) -> None:
        self._start, self._taken = self.keep_sources() if self.resumable else None, 0
        if self._samplers:  # the order of a DistributedSampler depends on its epoch alone
            epoch = int(torch.randint(1 << 16, (), generator=self._epochs))
            for sampler in self._samplers:
                sampler.set_epoch(epoch)
        self._batches = iter(private(self._loader))


def private(loader: Iterable[Any]) -> Iterable[Any]:
    """A loader whose persistent workers are its own, so that the user's see nothing of this."""
    if not (isinstance(loader, DataLoader) and loader.persistent_workers):
        return loader
    twin = copy.copy(loader)
    twin._iterator = None
    return twin
