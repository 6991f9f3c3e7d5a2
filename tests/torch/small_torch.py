"""Small nets, data and loaders, and what two trainings must agree on to the last bit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from onecycle.torch import Trial

SAMPLES, INPUTS, CLASSES = 40, 6, 3


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def net(seed: int = 0) -> nn.Sequential:
    """Batch norm, dropout and two linear layers."""
    seed_all(seed)
    return nn.Sequential(
        nn.Linear(INPUTS, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, CLASSES)
    )


def data(samples: int = SAMPLES) -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(samples, INPUTS, generator=generator)
    return TensorDataset(x, torch.randint(CLASSES, (samples,), generator=generator))


def loader(**options: Any) -> DataLoader[Any]:
    """Five batches of eight, shuffled."""
    return DataLoader(data(), **{"batch_size": 8, "shuffle": True, **options})


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(), **{"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, **options}
    )


def make_trial(
    model: nn.Module | None = None,
    optimizer: Any = None,
    loss_fn: Any = nn.functional.cross_entropy,
    train_loader: Iterable[Any] | None = None,
    val_loader: Iterable[Any] | None = None,
    **options: Any,
) -> Trial:
    model = net() if model is None else model
    return Trial(
        model,
        sgd(model) if optimizer is None else optimizer,
        loss_fn,
        loader() if train_loader is None else train_loader,
        val_loader,
        **options,
    )


def train(trial: Trial, steps: int) -> list[float]:
    return [float(trial.step()) for _ in range(steps)]


def sweep(trial: Trial, steps: int = 7) -> None:
    """What a range test does to a trial."""
    for step in range(steps):
        trial.set(lr=0.01 * 3.0**step, momentum=0.5, weight_decay=0.1)
        trial.step()
    trial.evaluate()


def everything(model: nn.Module, *optimizers: torch.optim.Optimizer) -> Any:
    """All that training depends on: parameters, buffers, gradients, modes, optimizers, generators."""
    return bits(
        {
            "modules": [
                {
                    "parameters": {
                        name: None if p is None else (p.detach(), p.grad, p.requires_grad)
                        for name, p in module._parameters.items()
                    },
                    "buffers": dict(module._buffers),
                    "training": module.training,
                }
                for module in model.modules()
            ],
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "random": [random.getstate(), np.random.get_state(), torch.get_rng_state()],  # noqa: NPY002
        }
    )


def bits(value: Any) -> Any:
    """`value` as nested tuples that are equal where every bit is, NaN included."""
    if isinstance(value, Tensor):
        dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        return str(value.dtype), tuple(value.shape), dense.contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Mapping):
        return tuple((key, bits(item)) for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(bits(item) for item in value)
    return value
