"""The task that the commands are tried on; a fault may lie in it."""

from __future__ import annotations

import torch

from benchmarks.reliability.problem import Problem, loader, updated
from onecycle.torch import Trial


def build(seed: int, batch_size: int = 8, weight_decay: float = 1e-3, workers: int = 0) -> Trial:
    """A trial of five steps an epoch, with a loader whose order is of its own generator."""
    problem = Problem(trained=0)
    torch.manual_seed(seed)
    for module in problem.model:
        if isinstance(module, (torch.nn.Linear, torch.nn.BatchNorm1d)):
            module.reset_parameters()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    optimizer.register_step_post_hook(updated)
    data = loader(batch_size, generator, workers)
    return Trial(problem.model, optimizer, problem.loss_fn, data, problem.val_loader)
