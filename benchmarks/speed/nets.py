"""Three small nets, with data that costs nothing to make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Job:
    """All that a range test of `steps` updates is given."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    loader: DataLoader[Any]
    steps: int


class Block(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs
        self.past = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of shape (batch, outputs, …)."""
        return torch.relu(self.path(x) + self.past(x))


class Language(nn.Module):
    """Two layers of a Transformer over 64 tokens, and a guess at each."""

    def __init__(self, words: int = 256, width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, x: Tensor) -> Tensor:
        """Of shape (batch, words, tokens), as the loss takes it."""
        out: Tensor = self.head(self.layers(self.embed(x)))
        return out.transpose(1, 2)


def mlp(batch: int, steps: int) -> Job:
    """64 to 64 to 10: an update takes about 0.1 ms, all of it overhead."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return _job(model, torch.randn(2048, 64), torch.randint(10, (2048,)), batch, steps)


def resnet20(batch: int, steps: int) -> Job:
    """He et al. 2015 (arXiv 1512.03385), section 4.2, for 32 x 32 images."""
    widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(Block(*width) for width in widths),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    return _job(model, torch.randn(512, 3, 32, 32), torch.randint(10, (512,)), batch, steps)


def transformer(batch: int, steps: int) -> Job:
    """Two layers, 128 wide, 64 tokens, 0.33 million parameters, with AdamW."""
    inputs, targets = torch.randint(256, (2, 512, 64))
    job = _job(Language(), inputs, targets, batch, steps)
    return Job(job.model, torch.optim.AdamW(job.model.parameters(), 1e-4), job.loss_fn, job.loader, steps)


NETS: dict[str, Callable[[int, int], Job]] = {"MLP": mlp, "ResNet-20": resnet20, "Transformer": transformer}


def _job(model: nn.Module, inputs: Tensor, targets: Tensor, batch: int, steps: int) -> Job:
    loader: DataLoader[Any] = DataLoader(TensorDataset(inputs, targets), batch, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    return Job(model, optimizer, nn.functional.cross_entropy, loader, steps)
