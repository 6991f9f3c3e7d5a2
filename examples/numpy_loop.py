"""No framework: softmax regression in NumPy, driven by the same range test and policy.

    $ pip install onecycle scikit-learn
    $ python numpy_loop.py

What the core needs of a model in training is the protocol `oc.Trial`: these few methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import onecycle as oc

BATCH, EPOCHS = 64, 20
IMAGES, LABELS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(LABELS))
X, Y = IMAGES[ORDER] / 16, LABELS[ORDER]


class Softmax:
    """Softmax regression by stochastic gradient descent with momentum."""

    size = BATCH

    def __init__(self) -> None:
        self.weights, self.velocity = np.zeros((65, 10)), np.zeros((65, 10))
        self.lr, self.momentum = 0.1, 0.9
        self.rng = np.random.default_rng(0)

    def set(self, **hyper: float) -> None:
        """Take the hyper-parameters of the next step."""
        vars(self).update(hyper)

    def step(self) -> float:
        """One update; the loss before it."""
        rows = self.rng.integers(360, len(Y), BATCH)
        loss, gradient = self._loss(X[rows], Y[rows])
        self.velocity = self.momentum * self.velocity - self.lr * gradient
        self.weights = self.weights + self.velocity
        return loss

    def evaluate(self) -> float:
        """The loss on the digits that are held out."""
        return self._loss(X[:360], Y[:360])[0]

    def save(self) -> Any:
        """Everything that a step changes."""
        return self.weights, self.velocity, self.lr, self.momentum, self.rng.bit_generator.state

    def restore(self, state: Any) -> None:
        """Put it back."""
        self.weights, self.velocity, self.lr, self.momentum, self.rng.bit_generator.state = state

    def outputs(self, x: Any) -> Any:
        """Log-odds of the ten digits."""
        return np.pad(x, ((0, 0), (0, 1)), constant_values=1) @ self.weights

    def _loss(self, x: Any, y: Any) -> tuple[float, Any]:
        odds = self.outputs(x)
        odds = odds - odds.max(axis=1, keepdims=True)
        chance = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum(chance[np.arange(len(y)), y], 1e-300)).mean()
        chance[np.arange(len(y)), y] -= 1
        return float(loss), np.pad(x, ((0, 0), (0, 1)), constant_values=1).T @ chance / len(y)


trial = Softmax()
found = oc.range_test(trial, start=1e-4, end=1e3).suggest()
print(found)

steps = EPOCHS * (len(Y) - 360) // BATCH
oc.train(trial, oc.one_cycle(found, steps))
accuracy = (trial.outputs(X[:360]).argmax(axis=1) == Y[:360]).mean()
print(f"accuracy on 360 digits that were held out: {accuracy:.1%}")
