"""Snapshots of live torch objects that put back the very objects that were there."""

from __future__ import annotations

import copy
import random
import sys
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from onecycle.torch._room import Copy, OnDisk, clone

Tree = Any
SIMPLE = (bool, int, float, complex, str, type(None), np.generic)
LEFT_OUT = object()  # stands in a tree for what a file cannot hold
_KEPT = (*SIMPLE, Tensor, np.ndarray, dict, list, tuple, deque)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a tensor, array or container held, and the thing itself where it is still in this process."""

    content: Any
    home: Any = None
    device: str | torch.device | None = None  # where a tensor belongs that is not kept there


def keep(value: Any, copied: Copy = clone) -> Tree:
    """Copy of tensors and arrays, and of containers of them; anything else is referred to."""
    if isinstance(value, SIMPLE):
        return value
    if isinstance(value, nn.Parameter):  # kept once, by name, however many lists it is in
        return value
    if isinstance(value, Tensor):
        return _keep_tensor(value, copied)
    if isinstance(value, np.ndarray):
        return Kept(value.copy(), value)
    if isinstance(value, dict):
        return Kept({key: keep(item, copied) for key, item in value.items()}, value)
    if isinstance(value, list):
        return Kept([keep(item, copied) for item in value], value)
    if isinstance(value, deque):
        return Kept(deque((keep(item, copied) for item in value), value.maxlen), value)
    return _rebuilt(value, partial(keep, copied=copied)) if isinstance(value, tuple) else value


def _keep_tensor(tensor: Tensor, copied: Copy) -> Kept:
    return Kept(copied(tensor), tensor, None if copied is clone else tensor.device)


def put_back(tree: Tree, present: object = None) -> Any:
    """What `keep` kept, in its own object; a tensor without one goes to `present` if that fits."""
    if isinstance(tree, tuple):
        return _rebuilt(tree, put_back)
    if not isinstance(tree, Kept):
        return tree
    content, home = tree.content, tree.home
    if isinstance(content, (Tensor, OnDisk)):
        return _put_back_tensor(tree, present)
    if isinstance(content, np.ndarray):
        if home is None:
            return content.copy()
        home[...] = content
    elif isinstance(content, dict):
        if home is None:
            home = copy.copy(present) if isinstance(present, dict) else {}
        put_back_into(home, content)
    else:
        items = [put_back(item) for item in content]
        home = content.copy() if home is None else home
        home.clear()
        home.extend(items)
    return home


def put_back_into(owner: dict[Any, Any], tree: dict[Any, Tree], but: frozenset[str] = frozenset()) -> None:
    """Put `tree` back in `owner`, and take out what `keep` would have copied, had it been there."""
    for name in [n for n, v in owner.items() if n not in tree and _is_kept(n, v, but)]:
        del owner[name]
    for name, kept in tree.items():
        if kept is not LEFT_OUT:
            owner[name] = put_back(kept, owner.get(name))


def _rebuilt(items: tuple[Any, ...], change: Callable[[Any], Any]) -> tuple[Any, ...]:
    changed = map(change, items)
    return items._make(changed) if hasattr(items, "_make") else type(items)(changed)


def _put_back_tensor(kept: Kept, present: object) -> Tensor:
    content: Tensor | OnDisk = kept.content
    home = present if kept.home is None else kept.home
    if isinstance(home, Tensor) and (home.shape, home.dtype) == (content.shape, content.dtype):
        into: Tensor = home.detach()
        if isinstance(content, OnDisk):
            content.into(into)
            return home
        if into.layout == torch.strided:
            # An expanded tensor repeats itself: writing each of its elements once is all that torch allows.
            for dim, (length, stride) in enumerate(zip(into.shape, into.stride(), strict=True)):
                if length > 1 and stride == 0:
                    into, content = into.narrow(dim, 0, 1), content.narrow(dim, 0, 1)
        into.copy_(content)
        return home
    if isinstance(content, OnDisk):
        content = content.read()
    new = content.clone() if kept.device is None else content.to(kept.device, copy=True)
    if kept.home is None:
        return new
    kept.home.data = new  # it was given other content, of another shape or dtype, in place
    return kept.home  # type: ignore[no-any-return]


# Parameters, modules, optimizers --------------------------------------------------------------------


def name_parameters(
    roots: Mapping[str, nn.Module], optimizers: Iterable[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Every parameter once: those of modules by path, then what the optimizers alone know."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()

    def meet(name: str, parameter: Tensor) -> None:
        if id(parameter) not in seen:
            seen.add(id(parameter))
            named[name] = parameter

    for prefix, root in roots.items():
        for path, module in root.named_modules(prefix=prefix):
            for name, weight in module._parameters.items():
                if weight is not None:
                    meet(f"{path}.{name}".lstrip("."), weight)
    for number, optimizer in enumerate(optimizers):
        for place, parameter in enumerate(_parameters(optimizer)):
            meet(f"optimizers[{number}][{place}]", parameter)
    return named


def keep_parameters(
    named: Mapping[str, Tensor], copied: Copy = clone, dropped: Container[int] = ()
) -> dict[str, Tree]:
    """Each parameter's content, gradient and `requires_grad`, by name.

    A gradient is not copied where its id is among `dropped`: nothing will write to it.
    """
    return {
        name: {
            "data": _keep_tensor(parameter, copied),
            "grad": parameter.grad if id(parameter.grad) in dropped else keep(parameter.grad, copied),
            "requires_grad": parameter.requires_grad,
        }
        for name, parameter in named.items()
    }


def put_back_parameters(named: Mapping[str, Tensor], tree: dict[str, Tree]) -> dict[str, Tensor]:
    """Put back what `keep_parameters` kept; the parameters by the name they had then."""
    restored: dict[str, Tensor] = {}
    for name, kept in tree.items():
        parameter = restored[name] = put_back(kept["data"], named.get(name))
        parameter.requires_grad = kept["requires_grad"]
        parameter.grad = put_back(kept["grad"])
    return restored


def keep_modules(
    modules: Iterable[nn.Module], named: Mapping[str, Tensor], copied: Copy = clone
) -> list[Tree]:
    """Buffers and plain attributes (`training` among them) of each module, and its parameters' names."""
    names = {id(parameter): name for name, parameter in named.items()}
    return [
        {
            "parameters": {
                name: None if parameter is None else names[id(parameter)]
                for name, parameter in module._parameters.items()
            },
            "buffers": {name: keep(buffer, copied) for name, buffer in module._buffers.items()},
            "attributes": keep_attributes(module, OF_MODULES, copied),
        }
        for module in modules
    ]


def put_back_modules(modules: Iterable[nn.Module], trees: list[Tree], named: Mapping[str, Tensor]) -> None:
    """Put back what `keep_modules` kept, the parameters being those of `named`."""
    for module, tree in zip(modules, trees, strict=True):
        parameters: dict[str, Any] = module._parameters
        parameters.clear()
        parameters.update({name: None if p is None else named[p] for name, p in tree["parameters"].items()})
        # Not into the present ones: a buffer that was assigned may be the user's own batch.
        buffers = {name: put_back(kept) for name, kept in tree["buffers"].items()}
        module._buffers.clear()
        module._buffers.update(buffers)
        put_back_into(vars(module), tree["attributes"], OF_MODULES)


def keep_optimizers(optimizers: Iterable[torch.optim.Optimizer], copied: Copy = clone) -> list[Tree]:
    """Each optimizer; of those that share a state, as a wrapper does, the first alone with it."""
    seen: set[int] = set()
    trees = []
    for optimizer in optimizers:
        tree = _keep_optimizer(optimizer, copied) if id(optimizer.state) not in seen else {"state": None}
        tree |= {
            "class": type(optimizer).__name__,
            "attributes": keep_attributes(optimizer, _OF_OPTIMIZERS, copied),
        }
        seen.add(id(optimizer.state))
        trees.append(tree)
    return trees


def _keep_optimizer(optimizer: torch.optim.Optimizer, copied: Copy) -> dict[str, Tree]:
    """State and param groups of an optimizer, parameters named by their place."""
    places = {id(p): place for place, p in enumerate(_parameters(optimizer))}
    return {
        "state": [(places.get(id(key), key), keep(value, copied)) for key, value in optimizer.state.items()],
        "objects": [keep(vars(each), copied) for each in _objects(optimizer.state)],
        "groups": [
            {name: keep(value, copied) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ],
    }


def put_back_optimizers(optimizers: Iterable[torch.optim.Optimizer], trees: list[Tree]) -> None:
    """Put back what `keep_optimizers` kept; param groups that came since are taken out."""
    for optimizer, tree in zip(optimizers, trees, strict=True):
        if tree["state"] is not None:
            _put_back_optimizer(optimizer, tree)
        put_back_into(vars(optimizer), tree["attributes"], _OF_OPTIMIZERS)


def _put_back_optimizer(optimizer: torch.optim.Optimizer, tree: dict[str, Tree]) -> None:
    del optimizer.param_groups[len(tree["groups"]) :]
    parameters = list(_parameters(optimizer))
    optimizer.state.clear()
    for place, value in tree["state"]:
        optimizer.state[parameters[place] if isinstance(place, int) else place] = put_back(value)
    for attributes in tree["objects"]:
        put_back(attributes)
    for group, kept in zip(optimizer.param_groups, tree["groups"], strict=True):
        put_back_into(group, kept, _OF_GROUPS)


def _objects(state: Mapping[Any, Any]) -> list[object]:
    """Objects of classes of its own that an optimizer keeps in its state, such as preconditioners."""

    def is_own(thing: object) -> bool:
        library = (*_KEPT, set, nn.Module, torch.optim.Optimizer, type, ModuleType, FunctionType, MethodType)
        return hasattr(thing, "__dict__") and not isinstance(thing, library)

    def held(thing: object) -> Iterable[object]:
        if isinstance(thing, dict):
            return list(thing.values())
        if isinstance(thing, (list, tuple, deque)):
            return list(thing)
        return list(vars(thing).values()) if is_own(thing) else ()

    return [thing for thing in _walk(state.values(), held, most=2**20) if is_own(thing)]


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def unwrap(optimizers: Iterable[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """`optimizers` and the optimizers they wrap, each once, the wrapped ones first."""
    found: dict[int, torch.optim.Optimizer] = {}
    for optimizer in optimizers:
        inner = [v for v in vars(optimizer).values() if hasattr(v, "param_groups") and hasattr(v, "state")]
        for each in (*unwrap(inner), optimizer):
            found.setdefault(id(each), each)
    return list(found.values())


def keep_attributes(
    thing: object, but: frozenset[str] = frozenset(), copied: Copy = clone
) -> dict[str, Tree]:
    """Attributes of `thing` that are plain values, tensors, arrays or containers, all `but` some."""
    return {name: keep(value, copied) for name, value in vars(thing).items() if _is_kept(name, value, but)}


OF_MODULES = frozenset(vars(nn.Module())) - {"training"}
_OF_OPTIMIZERS = frozenset({"state", "param_groups", "defaults"})
_OF_GROUPS = frozenset({"params"})


def _is_kept(name: object, value: object, but: frozenset[str]) -> bool:
    if name in but or not isinstance(value, _KEPT):
        return False
    return not (isinstance(name, str) and name.startswith("_") and "_hook" in name)


# What the data pipeline holds ------------------------------------------------------------------------

_PLAIN = (*_KEPT, set)
_BOXES = (list, deque, set, dict)
_MOST_INDICES = 2**22  # of an array that is copied; more are taken for data
_PROTOCOLS = ("__iter__", "__next__", "__getitem__", "__call__")


def pipeline(loader: object) -> list[object]:
    """Loader, samplers, data sets and the like that `loader` leads to, the nearest first."""
    found = _walk((loader,), _led_to)
    return [each for each in found if each is loader or not isinstance(each, (tuple, *_BOXES))]


def keep_counters(parts: Iterable[object]) -> list[dict[str, Any]]:
    """Numbers, strings and flags among each part's attributes: what samplers and the like count."""
    return [{n: v for n, v in _attributes(part).items() if isinstance(v, SIMPLE)} for part in parts]


def put_back_counters(parts: Iterable[object], counters: list[dict[str, Any]]) -> None:
    """Put back what `keep_counters` kept, past any `__setattr__`."""
    for part, kept in zip(parts, counters, strict=True):
        _set_attributes(part, kept)


class Contents:
    """What the parts of a pipeline refer to and in which order, none of its data copied.

    Kept are each part's attributes and each container's items, as references, and a copy only of the
    integers by which a part picks its samples. What has not changed is not written to.
    """

    def __init__(self, loader: object) -> None:
        self._parts: list[tuple[object, dict[str, Any]]] = []
        self._boxes: list[tuple[Any, list[Any]]] = []
        self._indices: list[Tree] = []
        for thing in _walk((loader,), _led_to):
            if isinstance(thing, _BOXES):
                self._boxes.append((thing, _items(thing)))
            elif not isinstance(thing, tuple):
                attributes = _attributes(thing)
                self._parts.append((thing, attributes))
                self._indices += [keep(value) for value in attributes.values() if _are_indices(value)]

    def put_back(self) -> None:
        """Put it all back, in the very objects."""
        for part, kept in self._parts:
            came = [n for n, v in _attributes(part).items() if n not in kept and isinstance(v, _PLAIN)]
            _set_attributes(part, kept, came)
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
        held = thing if isinstance(thing, (tuple, *_BOXES)) else _attributes(thing).values()
    return [each for each in islice(held, 1024) if isinstance(each, (tuple, *_BOXES)) or _is_part(each)]


def _is_part(thing: object) -> bool:
    kind: Any = type(thing)
    by_type = _are_parts(kind)
    return all(isinstance(v, _PLAIN) for v in _attributes(thing).values()) if by_type is None else by_type


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


def _attributes(thing: object) -> dict[str, Any]:
    """Attributes of `thing` itself, those in slots too, but not the workers of a DataLoader."""
    attributes = dict(getattr(thing, "__dict__", {}))
    kind: Any = type(thing)
    for name, slot in _slots(kind):
        with suppress(AttributeError):  # nothing in it yet
            attributes[name] = slot.__get__(thing)
    if isinstance(thing, DataLoader):
        attributes.pop("_iterator", None)  # a subclass may keep none
    return attributes


def _set_attributes(thing: object, values: Mapping[str, Any], gone: Iterable[str] = ()) -> None:
    """Give `thing` those of `values` that it has not, past any `__setattr__`, and take out those `gone`."""
    kind: Any = type(thing)
    own, slots, present = getattr(thing, "__dict__", {}), dict(_slots(kind)), _attributes(thing)
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


# Random generators -----------------------------------------------------------------------------------

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def keep_random(generators: Iterable[Generator]) -> Tree:
    """State of Python's, NumPy's and torch's global generators on each device, and of `generators`."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the global one is what users' code draws from
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "own": [_generator_state(generator) for generator in generators],
    }


def put_back_random(generators: Iterable[Generator], tree: Tree) -> None:
    """Put back what `keep_random` kept, as far as this machine has those devices."""
    random.setstate(tree["python"])
    np.random.set_state(tree["numpy"])  # noqa: NPY002
    torch.set_rng_state(tree["torch"])
    for index, state in enumerate(tree["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, index)
    if tree["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tree["mps"])
    for generator, state in zip(generators, tree["own"], strict=True):
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, random.Random):
            generator.setstate(state)
        else:
            generator.set_state(state)


def seed_random(generators: Iterable[Generator], seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, and each of `generators`."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    accelerator = getattr(torch, "accelerator", None)  # since torch 2.6
    if accelerator is None or accelerator.is_available():
        torch.manual_seed(seed)
    else:  # the above also notes, with its stack, what to do should a device come: most of its time
        torch.default_generator.manual_seed(seed)
    for generator in generators:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed)


def _generator_state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate()


# Search ----------------------------------------------------------------------------------------------


def find(kinds: tuple[type, ...], *roots: object, depth: int = 8, most: int = 10_000) -> list[Any]:
    """Things of `kinds` that `roots` hold or, where functions, refer to: the nearest first, each once."""

    def beyond(thing: object) -> Iterable[object]:
        return () if isinstance(thing, kinds) else _held_by(thing)

    return [thing for thing in _walk(roots, beyond, depth, most) if isinstance(thing, kinds)]


def held_by(module: nn.Module) -> list[object]:
    """What a module has as attributes, empty containers left out: it has a dozen for hooks alone."""
    return [value for value in vars(module).values() if not isinstance(value, (dict, set)) or value]


def _walk(
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
        return _attributes(thing).values()
    methods = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    return (*_attributes(thing).values(), *methods)


@lru_cache(maxsize=1024)
def _hold_nothing(kind: type) -> bool:
    return issubclass(kind, (type, ModuleType, Tensor, nn.Module, *SIMPLE))


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents
