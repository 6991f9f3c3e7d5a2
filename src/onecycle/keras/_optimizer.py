"""What a Keras optimizer calls its hyper-parameters, and whether training heeds a change of them."""

from __future__ import annotations

from typing import Any

import keras


def inner(optimizer: Any) -> Any:
    """The optimizer that a LossScaleOptimizer wraps, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def attribute_of(optimizer: Any, hyper: str) -> str:
    """What the optimizer calls `hyper`, empty where it has none."""
    names = {"momentum": ("momentum", "beta_1"), "weight_decay": ("weight_decay",)}[hyper]
    return next((name for name in names if getattr(optimizer, name, None) is not None), "")


def is_live(model: Any) -> bool:
    """Whether each training step reads the optimizer's plain attributes, rather than the first alone."""
    name = keras.backend.backend()
    return bool(name == "torch" or model.run_eagerly or (name == "jax" and not model.jit_compile))
