"""Snapshots of live torch objects that put back the very objects that were there."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.torch._objects import SIMPLE, walk
from onecycle.torch._room import Copy, OnDisk, clone

Tree = Any
LEFT_OUT = object()  # stands in a tree for what a file cannot hold
KEPT = (*SIMPLE, Tensor, np.ndarray, dict, list, tuple, deque)


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
        library = (*KEPT, set, nn.Module, torch.optim.Optimizer, type, ModuleType, FunctionType, MethodType)
        return hasattr(thing, "__dict__") and not isinstance(thing, library)

    def held(thing: object) -> Iterable[object]:
        if isinstance(thing, dict):
            return list(thing.values())
        if isinstance(thing, (list, tuple, deque)):
            return list(thing)
        return list(vars(thing).values()) if is_own(thing) else ()

    return [thing for thing in walk(state.values(), held, most=2**20) if is_own(thing)]


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
    if name in but or not isinstance(value, KEPT):
        return False
    return not (isinstance(name, str) and name.startswith("_") and "_hook" in name)
