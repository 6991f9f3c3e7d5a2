"""Handwritten digits with skorch, at a rate that was found."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

import onecycle as oc
from onecycle.skorch import OneCycle, Trial

EPOCHS = 10
BATCH = 32


class Network(nn.Module):
    """One hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the ten digits."""
        scores: torch.Tensor = self.layers(x)
        return scores


torch.manual_seed(0)
digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.data.astype(np.float32) / 16, digits.target, test_size=360, random_state=0
)
net = NeuralNetClassifier(
    Network,
    criterion=nn.CrossEntropyLoss,
    optimizer__momentum=0.9,
    batch_size=BATCH,
    max_epochs=EPOCHS,
    train_split=None,
    iterator_train__shuffle=True,
    verbose=0,
)

steps = EPOCHS * -(-len(X_train) // BATCH)
found = oc.find_lr(Trial(net, X_train, y_train), total_steps=steps)
print(f"max_lr {found.max_lr:.3g}: {found.reason}")

net.set_params(callbacks=[OneCycle(oc.one_cycle(found, steps))]).fit(X_train, y_train)
print(f"accuracy on 360 digits that were held out: {net.score(X_test, y_test):.1%}")
