"""Fine-tuning: a net that reads digits learns noisy ones from fifty examples, its body slower.

    $ pip install 'onecycle[torch]' scikit-learn
    $ python finetune_digits.py

It takes some seconds on a laptop's processor.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import onecycle as oc
from onecycle.torch import Scheduler, range_test

FEW = 50

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
first, few, test = order[:1000], order[1000 : 1000 + FEW], order[1000 + FEW :]
noisy = images + 0.4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
loss_fn = nn.CrossEntropyLoss()


def body() -> nn.Sequential:
    """Features of an image."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU())


def train(features: nn.Module, x: Tensor, y: Tensor, epochs: int, share: float = 1.0) -> nn.Sequential:
    """Train with a new head; the body's rate is that share of the head's, in range test and policy."""
    model = nn.Sequential(features, nn.Linear(64, 10))
    loader = DataLoader(TensorDataset(x, y), 20, shuffle=True)
    groups = [
        {"params": model[1].parameters(), "lr": 1e-3},
        {"params": model[0].parameters(), "lr": share * 1e-3},
    ]
    optimizer = torch.optim.AdamW(groups)
    found = range_test(model, optimizer, loss_fn, loader).suggest()
    print(f"  {found}")
    scheduler = Scheduler(optimizer, oc.one_cycle(found, epochs * len(loader)))
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_fn(model(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
    return model


def accuracy(model: nn.Module) -> float:
    """On noisy digits that were held out."""
    with torch.no_grad():
        right = model(noisy[test]).argmax(1) == labels[test]
    return float(right.float().mean())


print("a thousand clean digits:")
known = train(body(), images[first], labels[first], epochs=5)[0]
print(f"{FEW} noisy ones, from nothing:")
tuned = train(body(), noisy[few], labels[few], epochs=20)
print(f"  accuracy on {len(test)}: {accuracy(tuned):.1%}")
print(f"{FEW} noisy ones, from the net that knows clean ones:")
tuned = train(known, noisy[few], labels[few], epochs=20, share=0.3)
print(f"  accuracy on {len(test)}: {accuracy(tuned):.1%}")
