"""Tables: a perceptron on thirty measurements of tumours, with weight decay chosen by short runs.

    $ pip install 'onecycle[torch]' scikit-learn
    $ python tabular_cancer.py

It takes some seconds on a laptop's processor.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onecycle as oc
from onecycle.torch import Trial

STEPS = 300

data = load_breast_cancer()
inputs = torch.tensor(data.data, dtype=torch.float32)
labels = torch.tensor(data.target)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, val, test = order[228:], order[114:228], order[:114]
mean, spread = inputs[train].mean(0), inputs[train].std(0)
inputs = (inputs - mean) / spread


def build(seed: int, weight_decay: float = 0.01, held_out: torch.Tensor = val) -> Trial:
    """A fresh net, judged by the patients that are held out."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2))
    return Trial(
        model,
        torch.optim.AdamW(model.parameters(), weight_decay=weight_decay),
        nn.CrossEntropyLoss(),
        DataLoader(TensorDataset(inputs[train], labels[train]), 32, shuffle=True, drop_last=True),
        [(inputs[held_out], labels[held_out])],
        metrics={"accuracy": lambda output, target: (output.argmax(1) == target).float().mean()},
    )


found = oc.range_test(build(seed=0), seed=0).suggest()
print(found)

losses = {}
for decay in (0.0, 0.01, 0.1, 1.0):
    history = oc.train(build(seed=0, weight_decay=decay), oc.one_cycle(found, STEPS))
    losses[decay] = history.last("val_loss") or float("inf")
    print(f"weight decay {decay:g}: validation loss {losses[decay]:.4f}")

best = min(losses, key=losses.__getitem__)
history = oc.train(build(seed=1, weight_decay=best, held_out=test), oc.one_cycle(found, STEPS))
share = history.last("accuracy")
print(f"accuracy on 114 patients that were held out, with weight decay {best:g}: {share:.1%}")
