"""What the tests of several torch frameworks share."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from conformance import Values
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def loader(batches: int = 8, size: int = 4, **settings: Any) -> DataLoader[Any]:
    """Batches of a small regression."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size * batches, 6, generator=generator)
    y = x[:, :1] - x[:, 1:2] + 0.1 * torch.randn(len(x), 1, generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=size, **settings)


def net() -> nn.Sequential:
    """A small model with buffers and a use for random numbers."""
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))


def spy(kind: type[torch.optim.Optimizer], seen: Values) -> type[Any]:
    """An optimizer that tells what each of its steps uses."""

    class Spy(kind):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            seen.append(
                [
                    {
                        "lr": float(group["lr"]),
                        "momentum": group["momentum"] if "momentum" in group else group["betas"][0],
                    }
                    for group in self.param_groups
                ]
            )
            return super().step(closure)

    return Spy


def optimizer(
    model: nn.Sequential, seen: Values, factors: tuple[float, ...] = (1.0,), adam: bool = False
) -> Any:
    """One that tells what it uses, with a parameter group for each of `factors`, or one for all."""
    layers = [list(model[:2].parameters()), list(model[2:].parameters())]
    if len(factors) == 1:
        layers = [layers[0] + layers[1]]
    groups = [{"params": p, "lr": 0.1 * f} for p, f in zip(layers, factors, strict=True)]
    kind = spy(torch.optim.Adam if adam else torch.optim.SGD, seen)
    return kind(groups, **({} if adam else {"momentum": 0.9}))


def plain(tree: Any) -> Any:
    """A nested state with tensors as lists, so that it can be compared."""
    if isinstance(tree, (Tensor, np.ndarray)):
        return tree.tolist()
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain(value) for value in tree]
    return tree


def fingerprint(module: nn.Module, optimizers: list[Any]) -> Any:
    """All of a model, its optimizers and the random generators, to be compared with `==`."""
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, (bool, float, int, list, str)) and name != "_current_fx_name"
    ]
    return plain(
        {
            "model": module.state_dict(),
            "gradients": [p.grad for p in module.parameters()],
            "modes": [each.training for each in module.modules()],
            "attributes": {name: vars(module)[name] for name in names},
            "optimizers": [each.state_dict() for each in optimizers],
            "torch": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the one that users draw from
        }
    )
