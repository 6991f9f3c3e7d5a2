"""Images: a small convolutional net on handwritten digits, shifted at random, in a loop of one's own.

    $ pip install 'onecycle[torch]' scikit-learn
    $ python images_digits.py

It takes some seconds on a laptop's processor.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import onecycle as oc
from onecycle.torch import Scheduler, range_test

EPOCHS, BATCH = 12, 64

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels))
train, test = order[360:], order[:360]


def shifted(rows: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """A batch, moved by up to a pixel each way."""
    x, y = (torch.stack(part) for part in zip(*rows, strict=True))
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return x.roll((down, right), (2, 3)), y


def block(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolution, batch normalisation, rectifier."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


loader = DataLoader(
    TensorDataset(images[train], labels[train]), BATCH, shuffle=True, drop_last=True, collate_fn=shifted
)
layers = [*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 64), nn.AdaptiveAvgPool2d(1)]
model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
loss_fn = nn.CrossEntropyLoss()

found = range_test(model, optimizer, loss_fn, loader, start=1e-5).suggest()
print(found)

scheduler = Scheduler(optimizer, oc.one_cycle(found, EPOCHS * len(loader)))
for _ in range(EPOCHS):
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        scheduler.step()

model.eval()
with torch.no_grad():
    accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean().item()
print(f"accuracy on 360 digits that were held out: {accuracy:.1%}")
