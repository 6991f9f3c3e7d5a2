"""scikit-learn's handwritten digits with a small convolutional net, trained by SGD."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onecycle.torch import Trial


def build(seed: int, batch_size: int = 64, weight_decay: float = 5e-4) -> Trial:
    """A fresh trial: 1,437 images of 8 x 8 to train on, 360 for validation, always the same ones.

    Args:
        seed: of the net's weights and the order of the images.
        batch_size: images per update.
        weight_decay: of SGD with momentum 0.9.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32))[:, None] / 16
    labels = torch.from_numpy(digits.target.astype(np.int64))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    train, val = order[360:], order[:360]
    torch.manual_seed(seed)
    model = nn.Sequential(
        *_block(1, 16), *_block(16, 32), nn.MaxPool2d(2), *_block(32, 64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 4, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(seed)
    return Trial(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        DataLoader(
            TensorDataset(images[train], labels[train]),
            batch_size,
            shuffle=True,
            drop_last=True,
            generator=generator,
        ),
        [(images[val], labels[val])],
        metrics={"accuracy": lambda output, target: (output.argmax(1) == target).float().mean()},
    )


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
