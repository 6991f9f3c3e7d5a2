"""Snapshots of live torch objects that put back the very tensors that were there."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Simple = (bool, int, float, complex, str, type(None))
Tree = Any
_Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor's content, and the tensor itself where it is still in this process."""

    content: Tensor
    home: Tensor | None = None
    device: str | None = None  # where a tensor read from a file belongs

    @classmethod
    def of(cls, tensor: Tensor) -> Kept:
        return cls(tensor.detach().clone(), tensor)

    def put_back(self, present: object = None) -> Tensor:
        """The tensor with its content: its own object, else `present` where that fits, else a copy."""
        home = self.home if self.home is not None else present
        if not isinstance(home, Tensor) or (home.shape, home.dtype) != (
            self.content.shape,
            self.content.dtype,
        ):
            return self.content.clone() if self.device is None else self.content.to(self.device, copy=True)
        with torch.no_grad():
            home.copy_(self.content)
        return home


def keep(value: Any) -> Tree:
    """Copy of nested containers, each tensor kept; anything else is referred to."""
    if isinstance(value, Tensor):
        return Kept.of(value)
    if isinstance(value, Mapping):
        return {key: keep(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, deque)) and not hasattr(value, "_fields"):
        return type(value)(keep(item) for item in value)
    return value


def put_back(tree: Tree, present: object = None) -> Any:
    """The containers that `keep` copied, each tensor put back."""
    if isinstance(tree, Kept):
        return tree.put_back(present)
    if isinstance(tree, dict):
        there = present if isinstance(present, Mapping) else {}
        return {key: put_back(item, there.get(key)) for key, item in tree.items()}
    if isinstance(tree, (list, tuple, deque)) and not hasattr(tree, "_fields"):
        return type(tree)(put_back(item) for item in tree)
    return tree


# Modules and optimizers -------------------------------------------------------------------------------


def keep_modules(modules: Iterable[nn.Module]) -> list[Tree]:
    """Parameters, buffers, gradients and plain attributes (`training` among them) of each module."""
    tied: dict[int, Tree] = {}

    def keep_parameter(parameter: nn.Parameter | None) -> Tree:
        if parameter is None:
            return None
        if id(parameter) not in tied:
            tied[id(parameter)] = {
                "data": Kept.of(parameter),
                "grad": keep(parameter.grad),
                "requires_grad": parameter.requires_grad,
            }
        return tied[id(parameter)]

    return [
        {
            "parameters": {name: keep_parameter(p) for name, p in module._parameters.items()},
            "buffers": keep(module._buffers),
            "attributes": keep_attributes(module),
        }
        for module in modules
    ]


def put_back_modules(modules: Iterable[nn.Module], trees: list[Tree]) -> None:
    """Put back what `keep_modules` kept."""
    for module, tree in zip(modules, trees, strict=True):
        for name, kept in tree["parameters"].items():
            if kept is None:
                module._parameters[name] = None
                continue
            parameter = kept["data"].put_back(module._parameters.get(name))
            parameter.requires_grad = kept["requires_grad"]
            parameter.grad = put_back(kept["grad"])
            module._parameters[name] = parameter
        for name, kept in tree["buffers"].items():
            module._buffers[name] = put_back(kept, module._buffers.get(name))
        put_back_attributes(module, tree["attributes"])


def keep_optimizer(optimizer: torch.optim.Optimizer) -> Tree:
    """State and param groups of an optimizer, parameters named by their place."""
    places = {id(p): place for place, p in enumerate(_parameters(optimizer))}
    return {
        "state": [(places.get(id(key), key), keep(value)) for key, value in optimizer.state.items()],
        "groups": [
            {name: keep(value) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ],
        "attributes": keep_attributes(optimizer),
    }


def put_back_optimizer(optimizer: torch.optim.Optimizer, tree: Tree) -> None:
    """Put back what `keep_optimizer` kept."""
    parameters = list(_parameters(optimizer))
    before: dict[Any, Any] = dict(optimizer.state)
    optimizer.state.clear()
    for place, value in tree["state"]:
        key = parameters[place] if isinstance(place, int) else place
        optimizer.state[key] = put_back(value, before.get(key))
    for group, kept in zip(optimizer.param_groups, tree["groups"], strict=True):
        _put_back_into(group, kept)
    put_back_attributes(optimizer, tree["attributes"])


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def keep_attributes(thing: object) -> dict[str, Tree]:
    """Attributes of `thing` that are plain values or tensors."""
    attributes = getattr(thing, "__dict__", {})
    return {name: keep(value) for name, value in attributes.items() if isinstance(value, (*Simple, Tensor))}


def put_back_attributes(thing: object, tree: dict[str, Tree]) -> None:
    """Put back what `keep_attributes` kept, past any `__setattr__`."""
    _put_back_into(getattr(thing, "__dict__", {}), tree)


def _put_back_into(owner: dict[str, Any], tree: dict[str, Tree]) -> None:
    """Put `tree` back in `owner`, and take out plain values and tensors that came since."""
    for name in [n for n, v in owner.items() if n not in tree and isinstance(v, (*Simple, Tensor))]:
        del owner[name]
    for name, kept in tree.items():
        owner[name] = put_back(kept, owner.get(name))


# Random generators -----------------------------------------------------------------------------------


def keep_random(generators: Iterable[_Generator]) -> Tree:
    """State of Python's, NumPy's and torch's global generators on each device, and of `generators`."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the global one is what users' code draws from
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "own": [_generator_state(generator) for generator in generators],
    }


def put_back_random(generators: Iterable[_Generator], tree: Tree) -> None:
    """Put back what `keep_random` kept."""
    random.setstate(_random_state(tree["python"]))
    np.random.set_state(tree["numpy"])  # noqa: NPY002
    torch.set_rng_state(tree["torch"])
    if tree["cuda"]:
        torch.cuda.set_rng_state_all(tree["cuda"])
    if tree["mps"] is not None:
        torch.mps.set_rng_state(tree["mps"])
    for generator, state in zip(generators, tree["own"], strict=True):
        if isinstance(generator, torch.Generator):
            generator.set_state(state)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(state)
        else:
            generator.setstate(_random_state(state))


def seed_random(generators: Iterable[_Generator], seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, and each of `generators`."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    for generator in generators:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed)


def _generator_state(generator: _Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate()


def _random_state(state: Any) -> Any:
    """Python's own state, whose tuples a file turns into lists."""
    version, numbers, gauss = state
    return version, tuple(numbers), gauss


def find_generators(*roots: object, depth: int = 4, most: int = 2000) -> list[_Generator]:
    """Random generators held by `roots`, their attributes and items, `depth` levels down, each once."""
    found: list[_Generator] = []
    seen: set[int] = set()
    level: list[object] = list(roots)
    for _ in range(depth + 1):
        below: list[object] = []
        for thing in level:
            if id(thing) in seen or len(seen) >= most:
                continue
            seen.add(id(thing))
            if isinstance(
                thing, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
            ):
                found.append(thing)
            elif isinstance(thing, (list, tuple, set)):
                below += islice(thing, 64)
            elif isinstance(thing, dict):
                below += islice(thing.values(), 64)
            elif not isinstance(thing, (type, FunctionType, ModuleType, Tensor, nn.Module, *Simple)):
                below += vars(thing).values() if hasattr(thing, "__dict__") else ()
        level = below
    return found
