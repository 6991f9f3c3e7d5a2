"""A compiled Keras model as a trial."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from onecycle._batches import Generator, Stream, samples
from onecycle._moves import Part, share_moved
from onecycle._trial import Afterwards
from onecycle.keras._batches import Ordered, Shuffled, native
from onecycle.keras._optimizer import attribute_of, inner, is_live


class Trial:
    """A compiled Keras model in training that can be put back exactly as it was.

    The loss of a step is the batch's own, not the mean since the epoch began that `fit` reports.

    Args:
        model: built, and compiled with a number as learning rate.
        x: inputs, an array or a nest of arrays; or, without `y`, batches as `fit` takes them: a PyDataset,
            a DataLoader or another iterable that can be begun anew, or a function from a seed to one.
        y: targets; the samples are then shuffled, and whole batches taken.
        batch_size: samples per batch of `x` and `y`.
        validation_data: (x, y) or batches for `evaluate`; None: there is no validation loss.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the model is not built or compiled, or its rate cannot be set.
    """

    def __init__(
        self, model: Any, x: Any, y: Any = None, *, batch_size: int = 32, validation_data: Any = None
    ) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"model must be a keras.Model, got {type(model).__name__}")
        if not model.compiled or model.optimizer is None:
            raise ValueError("model must be compiled with an optimizer and a loss: model.compile(…)")
        if not model.built or not all(layer.built for layer in model.layers):
            raise ValueError("model has no weights yet: give it an Input, or call it on one batch first")
        if not hasattr(model.optimizer.learning_rate, "assign"):
            raise ValueError(
                "the model's learning rate cannot be set, since it is a schedule: compile it with a number, "
                "as in keras.optimizers.SGD(0.1), for the test, and with the schedule after it"
            )
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._model = model
        self._optimizer = inner(model.optimizer)
        self._accumulate = self._optimizer.gradient_accumulation_steps or 1
        self._validation_data = validation_data
        self._batch_size = batch_size
        batches: Any = x if y is None else Shuffled(x, y, batch_size)
        if isinstance(x, keras.utils.PyDataset):
            batches = Ordered(x)
        self._stream = Stream(batches, _torch_generators())
        count = len(batches) if hasattr(batches, "__len__") else None
        self.steps_per_epoch = None if count is None else max(count // self._accumulate, 1)
        self.metrics: dict[str, float] = {}
        self.size = 0

    def describe(self) -> dict[str, Any]:
        """What a curve's settings keep of it: optimizer, rate, momentum, weight decay, steps in an epoch."""
        facts: dict[str, Any] = {
            "optimizer": type(self._optimizer).__name__,
            "lr": float(self._model.optimizer.learning_rate),
            "steps_per_epoch": self.steps_per_epoch,
        }
        for hyper in ("momentum", "weight_decay"):
            if attribute := attribute_of(self._optimizer, hyper):
                facts[hyper] = float(getattr(self._optimizer, attribute))
        return facts

    def set(self, **hyper: float) -> None:
        """Set `lr`, `momentum` (or beta_1) or `weight_decay`.

        Where the back end compiles momentum and weight decay in, a policy's are left alone, as `fit`
        would leave them.

        Raises:
            ValueError: one is set without a rate, as in a sweep of it, and would have no effect.
        """
        if "lr" in hyper:
            self._model.optimizer.learning_rate = hyper["lr"]
        for name in hyper.keys() - {"lr"}:
            attribute = attribute_of(self._optimizer, name)
            if is_live(self._model):
                if attribute and getattr(self._optimizer, attribute) != 0:
                    setattr(self._optimizer, attribute, hyper[name])
            elif "lr" not in hyper:
                raise ValueError(
                    f"{name} cannot be swept: the {keras.backend.backend()} back end compiles the value in; "
                    "compile the model with jit_compile=False, or use the torch back end"
                )

    def seed(self, seed: int) -> None:
        """Seed every random generator, the model's SeedGenerators too, and start the data anew."""
        self._stream.seed(seed)
        states = [v for v in self._model.variables if v.name == "seed_generator_state"]
        words = np.random.SeedSequence(seed).generate_state(len(states)) >> 1
        for state, word in zip(states, words, strict=True):
            # A copy: JAX trains on, and gives away, memory that it may share with NumPy's array.
            state.assign(ops.copy(ops.convert_to_tensor([int(word), 0], state.dtype)))

    def step(self) -> float:
        """Train on one batch, or `gradient_accumulation_steps` of them; their mean loss before the update.

        Raises:
            ValueError: the model's own `train_step` reports no loss, or there is no batch.
        """
        self._model_mode()
        losses = []
        for _ in range(self._accumulate):
            x, y, weight = keras.utils.unpack_x_y_sample_weight(native(next(self._stream)))
            self.size = samples(keras.tree.flatten(x)) * self._accumulate
            self._model.reset_metrics()  # so that their mean is of this batch; older releases do not do it
            logs = self._model.train_on_batch(x, y, sample_weight=weight, return_dict=True)
            if "loss" not in logs:
                raise ValueError(f"the model's train_step must report 'loss', got {list(logs)}")
            losses.append(float(logs["loss"]))
        return sum(losses) / len(losses)

    def evaluate(self) -> float | None:
        """Mean loss over the validation data, None without; training goes on as if not called."""
        data = self._validation_data
        if data is None:
            return None
        random = self._stream.random()
        how: dict[str, Any] = {"verbose": 0, "return_dict": True}
        with Afterwards(partial(self._stream.put_back_random, random)):
            if isinstance(data, tuple):
                x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
                logs = self._model.evaluate(x, y, sample_weight=weight, batch_size=self._batch_size, **how)
            else:
                logs = self._model.evaluate(data, **how)
        self.metrics = {name: float(value) for name, value in logs.items() if name != "loss"}
        return float(logs["loss"])

    def save(self) -> dict[str, Any]:
        """Everything that `restore` needs; each variable is copied once, on its own device."""
        return {
            "variables": [(v, _copy(v)) for v in _variables(self._model)],
            "hyper": {
                name: getattr(self._optimizer, name)
                for name in ("momentum", "beta_1", "weight_decay")
                if hasattr(self._optimizer, name)
            },
            "unbuilt": [part for part in self._parts() if not part.built],
            "gradients": [(p, p.grad) for p in _torch_parameters(self._model)],
            "modes": {m: m.training for m in _torch_modules(self._model)},
            "data": self._stream.keep(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put the model back to where `save` was called."""
        if hasattr(self._model, "_jax_state"):
            self._model._jax_state = None  # what a step that failed left there would be written over ours
        for variable, value in state["variables"]:
            variable.assign(ops.copy(value))  # the JAX back end gives away what it trains on
        for name, value in state["hyper"].items():
            setattr(self._optimizer, name, value)
        for part in state["unbuilt"]:  # to build it, `fit` draws from the generators
            part.built = False
            part.metrics.clear()
        for parameter, gradient in state["gradients"]:
            parameter.grad = gradient
        for module in _torch_modules(self._model):  # Keras makes some of them anew at each step
            module.training = state["modes"].get(module, state["modes"][self._model])
        self._stream.put_back(state["data"])

    def moved(self, state: dict[str, Any]) -> float:
        """How far the trainable weights lie from those of `state`, as a share of their size there.

        What has not moved counts nothing, nor does a weight that began at zero. NaN where most of them did.
        """
        trained = {id(weight) for weight in self._model.trainable_variables}
        pairs = [(ops.stop_gradient(v.value), was) for v, was in state["variables"] if id(v) in trained]
        return share_moved(_part(now, was) for now, was in pairs)

    def _parts(self) -> list[Any]:
        """What `fit` builds at its first batch beside the model."""
        parts = (self._model._compile_loss, self._model._compile_metrics)
        return [part for part in parts if part is not None]

    def _model_mode(self) -> None:
        if keras.backend.backend() == "torch" and not self._model.training:
            self._model.train()


def _variables(model: Any) -> list[Any]:
    """Every variable that training may change, once."""
    from keras.src.backend.common import global_state

    found = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    # Random operations outside of layers share a generator that Keras keeps to itself.
    shared = global_state.get_global_attribute("global_seed_generator")
    if shared is not None:
        found.append(shared.state)
    return list({id(variable): variable for variable in found}.values())


def _copy(variable: Any) -> Any:
    return ops.copy(ops.stop_gradient(variable.value))


def _torch_modules(model: Any) -> Iterator[Any]:
    return model.modules() if keras.backend.backend() == "torch" else iter(())


def _torch_parameters(model: Any) -> Iterator[Any]:
    return model.parameters() if keras.backend.backend() == "torch" else iter(())


def _torch_generators() -> tuple[Generator, ...]:
    if keras.backend.backend() != "torch":
        return ()
    import torch

    cpu = Generator(torch.get_rng_state, torch.set_rng_state, torch.manual_seed)
    cuda = Generator(torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all, torch.cuda.manual_seed_all)
    return (cpu, cuda) if torch.cuda.is_available() else (cpu,)


def _part(now: Any, was: Any) -> Part:
    now, was = ops.cast(now, "float32"), ops.cast(was, "float32")  # squares of fewer bits are too coarse
    way = ops.subtract(now, was)
    moving = ops.where(ops.not_equal(way, 0), was, ops.zeros_like(was))
    square, of_moved = (float(ops.sum(ops.square(each))) for each in (way, moving))
    return Part(square, of_moved, int(np.prod(was.shape)), bool(ops.any(ops.not_equal(was, 0))))
