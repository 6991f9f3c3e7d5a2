"""All that a training in PyTorch depends on, for comparison with `==`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn


def fingerprint(model: nn.Module, *optimizers: torch.optim.Optimizer) -> Any:
    """Parameters, buffers, gradients, modes, hooks, optimizers and random generators."""
    return _plain(
        {
            "tensors": model.state_dict(),
            "gradients": [p.grad for p in model.parameters()],
            "attributes": [sorted(vars(module)) for module in model.modules()],
            "modes": [module.training for module in model.modules()],
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "random": [random.getstate(), np.random.get_state(), torch.get_rng_state()],  # noqa: NPY002
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
