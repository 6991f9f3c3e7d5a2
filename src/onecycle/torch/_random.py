"""Random generators: Python's, NumPy's and torch's global ones, and those that a trial has of its own."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def keep_random(generators: Iterable[Generator]) -> Any:
    """State of Python's, NumPy's and torch's global generators on each device, and of `generators`."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the global one is what users' code draws from
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "own": [_generator_state(generator) for generator in generators],
    }


def put_back_random(generators: Iterable[Generator], tree: Any) -> None:
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
