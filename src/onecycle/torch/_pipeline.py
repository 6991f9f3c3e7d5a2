"""What the data pipeline holds, and putting it back: counters, indices, the order of its parts."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.torch._objects import SIMPLE, attributes_of, set_attributes, walk
from onecycle.torch._random import GENERATORS
from onecycle.torch._state import KEPT, Tree, keep, put_back

_PLAIN = (*KEPT, set)
_BOXES = (list, deque, set, dict)
_MOST_INDICES = 2**22  # of an array that is copied; more are taken for data
_PROTOCOLS = ("__iter__", "__next__", "__getitem__", "__call__")


def pipeline(loader: object) -> list[object]:
    """Loader, samplers, data sets and the like that `loader` leads to, the nearest first."""
    found = walk((loader,), _led_to)
    return [each for each in found if each is loader or not isinstance(each, (tuple, *_BOXES))]


def keep_counters(parts: Iterable[object]) -> list[dict[str, Any]]:
    """Numbers, strings and flags among each part's attributes: what samplers and the like count."""
    return [{n: v for n, v in attributes_of(part).items() if isinstance(v, SIMPLE)} for part in parts]


def put_back_counters(parts: Iterable[object], counters: list[dict[str, Any]]) -> None:
    """Put back what `keep_counters` kept, past any `__setattr__`."""
    for part, kept in zip(parts, counters, strict=True):
        set_attributes(part, kept)


class Contents:
    """What the parts of a pipeline refer to and in which order, none of its data copied.

    Kept are each part's attributes and each container's items, as references, and a copy only of the
    integers by which a part picks its samples. What has not changed is not written to.
    """

    def __init__(self, loader: object) -> None:
        self._parts: list[tuple[object, dict[str, Any]]] = []
        self._boxes: list[tuple[Any, list[Any]]] = []
        self._indices: list[Tree] = []
        for thing in walk((loader,), _led_to):
            if isinstance(thing, _BOXES):
                self._boxes.append((thing, _items(thing)))
            elif not isinstance(thing, tuple):
                attributes = attributes_of(thing)
                self._parts.append((thing, attributes))
                self._indices += [keep(value) for value in attributes.values() if _are_indices(value)]

    def put_back(self) -> None:
        """Put it all back, in the very objects."""
        for part, kept in self._parts:
            came = [n for n, v in attributes_of(part).items() if n not in kept and isinstance(v, _PLAIN)]
            set_attributes(part, kept, came)
        for box, items in self._boxes:
            if not _same(_items(box), items):
                box.clear()
                (box.update if isinstance(box, (dict, set)) else box.extend)(items)
        for kept in self._indices:
            put_back(kept)


def _led_to(thing: object) -> Iterable[object]:
    """What of `thing` may itself be part of a pipeline, or a container of such parts."""
    if isinstance(thing, dict):
        held: Iterable[object] = thing.values()
    else:
        held = thing if isinstance(thing, (tuple, *_BOXES)) else attributes_of(thing).values()
    return [each for each in islice(held, 1024) if isinstance(each, (tuple, *_BOXES)) or _is_part(each)]


def _is_part(thing: object) -> bool:
    kind: Any = type(thing)
    by_type = _are_parts(kind)
    return all(isinstance(v, _PLAIN) for v in attributes_of(thing).values()) if by_type is None else by_type


@lru_cache(maxsize=1024)
def _are_parts(kind: type) -> bool | None:
    """Whether things of that type may be parts of a pipeline; None: if they hold but plain values."""
    if issubclass(kind, (*SIMPLE, Tensor, np.ndarray, type, nn.Module, torch.optim.Optimizer, *GENERATORS)):
        return False
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names:  # functions, files, queues, locks
        return False
    return True if any(hasattr(kind, protocol) for protocol in _PROTOCOLS) else None


def _are_indices(value: object) -> bool:
    if isinstance(value, Tensor):
        whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return whole and value.layout == torch.strided and value.ndim == 1 and len(value) <= _MOST_INDICES
    return (
        type(value) is np.ndarray  # a memory map holds data
        and value.dtype.kind in "iu"
        and value.ndim == 1
        and len(value) <= _MOST_INDICES
        and value.flags.writeable
    )


def _items(box: Any) -> list[Any]:
    return list(box.items() if isinstance(box, dict) else box)


def _same(now: list[Any], then: list[Any]) -> bool:
    """Whether both hold the very same things; the items of dicts are pairs of such."""
    if len(now) != len(then):
        return False
    return all(
        a is b or (type(a) is type(b) is tuple and len(a) == len(b) == 2 and a[0] is b[0] and a[1] is b[1])
        for a, b in zip(now, then, strict=True)
    )
