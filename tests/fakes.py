"""A trial without a framework: noisy SGD on a quadratic, whose every number can be worked out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np


class Quadratic:
    """SGD with momentum on `curvature * x**2 / 2 + noise`, restored by copying all that it has.

    Args:
        curvature: the loss diverges for rates above about 2 / curvature.
        noise: standard deviation of the loss from batch to batch.
        fail: called with the count of steps before each one; to raise or to interrupt.
        val: whether there is a validation loss.
    """

    size = 8
    steps_per_epoch = 10

    def __init__(
        self,
        curvature: float = 4.0,
        noise: float = 0.0,
        fail: Callable[[int], None] | None = None,
        val: bool = False,
    ) -> None:
        self.curvature, self.noise, self.fail, self.val = curvature, noise, fail, val
        self.state: dict[str, Any] = {
            "x": 1.0,
            "velocity": 0.0,
            "steps": 0,
            "hyper": {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.0},
            "random": np.random.default_rng(0),
        }
        self.metrics: dict[str, float] = {}
        self.used: list[dict[str, float]] = []  # the hyper-parameters of every step, never restored
        self.evaluated: list[int] = []  # the steps before which `evaluate` was called, never restored

    def set(self, **hyper: float) -> None:
        self.state["hyper"].update(hyper)

    def seed(self, seed: int) -> None:
        self.state["random"] = np.random.default_rng(seed)

    def step(self) -> float:
        state, hyper = self.state, self.state["hyper"]
        if self.fail is not None:
            self.fail(state["steps"])
        self.used.append(dict(hyper))
        loss = self.curvature * state["x"] * state["x"] / 2 + self.noise * state["random"].normal()
        gradient = self.curvature * state["x"] + hyper["weight_decay"] * state["x"]
        state["velocity"] = hyper["momentum"] * state["velocity"] + gradient
        state["x"] -= hyper["lr"] * state["velocity"]
        state["steps"] += 1
        return float(loss)

    def evaluate(self) -> float | None:
        self.evaluated.append(self.state["steps"])
        if not self.val:
            return None
        self.metrics = {"distance": abs(self.state["x"])}
        return float(self.curvature * self.state["x"] ** 2 / 2)

    def save(self) -> Any:
        return copy.deepcopy(self.state)

    def restore(self, state: Any) -> None:
        self.state = copy.deepcopy(state)


def same(a: Any, b: Any) -> bool:
    """Whether two states of a `Quadratic` are equal, the random generator's too."""
    return bool(
        {k: v for k, v in a.items() if k != "random"} == {k: v for k, v in b.items() if k != "random"}
        and a["random"].bit_generator.state == b["random"].bit_generator.state
    )
