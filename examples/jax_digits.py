"""Handwritten digits with JAX and Optax: find a rate, then train with the 1cycle policy in one scan an epoch.

    $ pip install 'onecycle[jax]' scikit-learn
    $ python jax_digits.py

It takes some seconds on a laptop's processor, and prints the rate that was found and the accuracy on digits
that the network has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import onecycle as oc
from onecycle.optax import find_lr, optimizer

EPOCHS, BATCH = 15, 64
IMAGES, LABELS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(LABELS))
X, Y = (IMAGES[ORDER] / 16).astype(np.float32), LABELS[ORDER].astype(np.int32)
TRAIN, HELD_OUT = slice(360, None), slice(360)
STEPS = len(Y[TRAIN]) // BATCH  # an epoch's


def batches(seed: int) -> Iterator[Any]:
    """One epoch, in the order that the seed gives."""
    for rows in np.split(np.random.default_rng(seed).permutation(len(Y[TRAIN]))[: STEPS * BATCH], STEPS):
        yield X[TRAIN][rows], Y[TRAIN][rows]


def initial(key: Any) -> list[Any]:
    """Weights of a perceptron with two hidden layers."""
    sizes = (64, 128, 128, 10)
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def outputs(params: list[Any], x: Any) -> Any:
    """Log-odds of the ten digits."""
    *hidden, (weights, biases) = params
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ weights + biases


def loss_fn(params: list[Any], batch: Any) -> Any:
    """Mean cross-entropy."""
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(outputs(params, x), y).mean()


def main() -> float:
    """Train; returns the accuracy on the held-out digits."""
    params = initial(jax.random.key(0))

    # 1. Find the rate: an update that takes it as an argument.
    measured = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9)

    @jax.jit
    def update(state: Any, batch: Any, lr: Any, momentum: Any = 0.9) -> Any:
        params, opt_state = state
        loss, gradient = jax.value_and_grad(loss_fn)(params, batch)
        opt_state = optax.tree.set(opt_state, learning_rate=lr, momentum=momentum)
        change, opt_state = measured.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), loss

    total = EPOCHS * STEPS
    # Pilots short enough for so short a run would tell nothing: they get most of its length.
    suggestion = find_lr(update, (params, measured.init(params)), batches, total_steps=total, budget=0.9)
    print(suggestion)

    # 2. Train: an optimizer that follows the policy, an epoch at a time on the device.
    tx = optimizer(oc.one_cycle(suggestion, total), optax.sgd)

    def step(state: Any, batch: Any) -> Any:
        params, opt_state = state
        loss, gradient = jax.value_and_grad(loss_fn)(params, batch)
        change, opt_state = tx.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), loss

    epoch = jax.jit(lambda state, data: jax.lax.scan(step, state, data))
    state = (params, tx.init(params))
    for seed in range(EPOCHS):
        data = jax.tree.map(lambda *parts: np.stack(parts), *batches(seed))
        state, losses = epoch(state, data)
        print(f"epoch {seed + 1}: loss {losses.mean():.4f}")
    predicted = outputs(state[0], X[HELD_OUT]).argmax(axis=1)
    accuracy = float((predicted == Y[HELD_OUT]).mean())
    print(f"accuracy on 360 held-out digits: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
