"""Handwritten digits with Keras 3: find a rate, then train with the 1cycle policy.

    $ pip install 'onecycle[keras]' torch scikit-learn
    $ KERAS_BACKEND=torch python keras_digits.py

It takes some seconds on a laptop's processor, and prints the rate that was found and the accuracy on digits
that the network has not seen. With KERAS_BACKEND=jax, which compiles momentum in, it stays constant.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import onecycle as oc
from onecycle.keras import PolicyCallback, Schedule, range_test

EPOCHS, BATCH = 8, 64


def main() -> float:
    """Train; returns the accuracy on the held-out digits."""
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1), labels[order]

    # Keras averages the statistics of batches over a hundred steps, too slowly for a run of two hundred.
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *(layers.Conv2D(16, 3, padding="same"), layers.BatchNormalization(momentum=0.9), layers.ReLU()),
            layers.MaxPooling2D(),
            *(layers.Conv2D(32, 3, padding="same"), layers.BatchNormalization(momentum=0.9), layers.ReLU()),
            *(layers.Flatten(), layers.Dense(10)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    # 1. Find the rate, with one that can be set.
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    suggestion = range_test(model, x[360:], y[360:], batch_size=BATCH, start=1e-4).suggest()
    print(suggestion)

    # 2. Train with the policy.
    momentum = (0.95, 0.85) if keras.backend.backend() == "torch" else None
    steps = EPOCHS * -(-len(y[360:]) // BATCH)
    policy = oc.one_cycle(suggestion, steps, momentum=momentum)
    model.compile(keras.optimizers.SGD(Schedule(policy.lr), momentum=0.9), loss, metrics=["accuracy"])
    model.fit(
        x[360:], y[360:], batch_size=BATCH, epochs=EPOCHS, verbose=2, callbacks=[PolicyCallback(policy)]
    )
    accuracy = float(model.evaluate(x[:360], y[:360], verbose=0, return_dict=True)["accuracy"])
    print(f"accuracy on 360 held-out digits: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
