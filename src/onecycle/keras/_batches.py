"""What `fit` takes as data, in batches that can be begun anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops


class Shuffled:
    """Whole batches of `x` and `y`, in an order that the seed gives."""

    def __init__(self, x: Any, y: Any, batch_size: int) -> None:
        self._data = native((x, y))
        lengths = {a.shape[0] if a.shape else 0 for a in keras.tree.flatten(self._data)}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(f"x and y must be arrays of one length, got {sorted(lengths)}")
        (self._length,) = lengths
        if not (isinstance(batch_size, int) and 1 <= batch_size <= self._length):
            raise ValueError(
                f"batch_size must lie between 1 and the {self._length} samples, got {batch_size!r}"
            )
        self._batch_size = batch_size

    def __len__(self) -> int:
        return int(self._length // self._batch_size)

    def __call__(self, seed: int) -> Iterator[Any]:
        order = np.random.default_rng(seed).permutation(self._length)
        for rows in np.split(order[: len(self) * self._batch_size], len(self)):
            yield keras.tree.map_structure(lambda a, rows=rows: a[rows], self._data)


class Ordered:
    """The batches of a PyDataset, which need not end by itself when iterated."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return int(self._dataset.num_batches)

    def __iter__(self) -> Iterator[Any]:
        return (self._dataset[i] for i in range(len(self)))


def native(batch: Any) -> Any:
    """Tensors of other frameworks as NumPy arrays, in lists and tuples of any depth."""
    return keras.tree.map_structure(
        lambda a: a if a is None or isinstance(a, np.ndarray) or ops.is_tensor(a) else np.asarray(a), batch
    )
