"""What objects hold: their attributes, and what these lead to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

SIMPLE = (bool, int, float, complex, str, type(None), np.generic)


def find(kinds: tuple[type, ...], *roots: object, depth: int = 8, most: int = 10_000) -> list[Any]:
    """Things of `kinds` that `roots` hold or, where functions, refer to: the nearest first, each once."""

    def beyond(thing: object) -> Iterable[object]:
        return () if isinstance(thing, kinds) else _held_by(thing)

    return [thing for thing in walk(roots, beyond, depth, most) if isinstance(thing, kinds)]


def held_by(module: nn.Module) -> list[object]:
    """What a module has as attributes, empty containers left out: it has a dozen for hooks alone."""
    return [value for value in vars(module).values() if not isinstance(value, (dict, set)) or value]


def walk(
    roots: Iterable[object], beyond: Callable[[object], Iterable[object]], depth: int = 8, most: int = 10_000
) -> Iterator[Any]:
    """`roots` and what lies `beyond` them, the nearest first, each once."""
    seen: dict[int, object] = {}  # with the thing, so that no other takes its id
    level = list(roots)
    for _ in range(depth + 1):
        below: list[object] = []
        for thing in level:
            if id(thing) in seen or len(seen) >= most:
                continue
            seen[id(thing)] = thing
            yield thing
            below += beyond(thing)
        level = below


def _held_by(thing: object) -> Iterable[object]:
    if isinstance(thing, (list, tuple, set, deque)):
        return islice(thing, 64)
    if isinstance(thing, dict):
        return islice(thing.values(), 64)
    if isinstance(thing, FunctionType):
        if (thing.__module__ or "").partition(".")[0] == "torch":
            return ()
        variables = [thing.__globals__[name] for name in thing.__code__.co_names if name in thing.__globals__]
        return (*_cells(thing), *variables, *(thing.__defaults__ or ()))
    if isinstance(thing, MethodType):
        return (thing.__self__, thing.__func__)
    if isinstance(thing, partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    kind: Any = type(thing)
    if _hold_nothing(kind):
        return ()
    if kind.__module__.partition(".")[0] == "torch":
        return attributes_of(thing).values()
    methods = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    return (*attributes_of(thing).values(), *methods)


@lru_cache(maxsize=1024)
def _hold_nothing(kind: type) -> bool:
    return issubclass(kind, (type, ModuleType, Tensor, nn.Module, *SIMPLE))


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents


def attributes_of(thing: object) -> dict[str, Any]:
    """Attributes of `thing` itself, those in slots too, but not the workers of a DataLoader."""
    attributes = dict(getattr(thing, "__dict__", {}))
    kind: Any = type(thing)
    for name, slot in _slots(kind):
        with suppress(AttributeError):  # nothing in it yet
            attributes[name] = slot.__get__(thing)
    if isinstance(thing, DataLoader):
        attributes.pop("_iterator", None)  # a subclass may keep none
    return attributes


def set_attributes(thing: object, values: Mapping[str, Any], gone: Iterable[str] = ()) -> None:
    """Give `thing` those of `values` that it has not, past any `__setattr__`, and take out those `gone`."""
    kind: Any = type(thing)
    own, slots, present = getattr(thing, "__dict__", {}), dict(_slots(kind)), attributes_of(thing)
    for name in gone:
        if name in slots:
            slots[name].__delete__(thing)
        else:
            del own[name]
    for name, value in values.items():
        if name in present and present[name] is value:
            continue
        if name in slots:
            slots[name].__set__(thing, value)
        else:
            own[name] = value


@lru_cache(maxsize=256)
def _slots(kind: type) -> list[tuple[str, MemberDescriptorType]]:
    slotted = [vars(each) for each in kind.__mro__ if "__slots__" in vars(each)]
    return [(n, m) for each in slotted for n, m in each.items() if isinstance(m, MemberDescriptorType)]
