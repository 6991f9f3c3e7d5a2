"""Keras 3, on its torch and JAX back ends: schedules, a policy's momentum, and range tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from onecycle import _find, _range_test, _traced
from onecycle._batches import Generator, Stream, samples
from onecycle._curve import Curve
from onecycle._policy import Policy
from onecycle._schedules import ClosedForm
from onecycle._schedules import Schedule as AnySchedule
from onecycle._suggestion import Suggestion
from onecycle._trial import Afterwards

try:
    import keras
    from keras import ops
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.keras needs Keras 3 and its back end ({error}): pip install 'onecycle[keras]' torch, "
        "and set KERAS_BACKEND=torch; or jax likewise",
        name=error.name,
    ) from error

__all__ = ["PolicyCallback", "Schedule", "Trial", "find_lr", "range_test"]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule, such as `policy.lr`, as the learning rate of a Keras optimizer; saved with the model.

    Args:
        schedule: a closed form, such as the `lr` of a policy.
        accumulate: the optimizer's `gradient_accumulation_steps`; Keras counts batches, not updates.

    Raises:
        TypeError: `schedule` is no closed form of this library.
        ValueError: `accumulate` is no number of batches.
    """

    def __init__(self, schedule: AnySchedule, accumulate: int = 1) -> None:
        _traced.check(schedule)
        if not isinstance(schedule, ClosedForm):
            raise TypeError(f"schedule must be one of onecycle's own, got {schedule!r}")
        if not (isinstance(accumulate, int) and accumulate >= 1):
            raise ValueError(f"accumulate must be a number of batches >= 1, got {accumulate!r}")
        self.schedule = schedule
        self.accumulate = accumulate

    def __call__(self, step: Any) -> Any:
        """Learning rate after `step` batches, a float32 tensor of the back end."""
        count = ops.cast(step, "int32")
        if self.accumulate > 1:
            count = ops.floor_divide(count, self.accumulate)
        return _traced.value(self.schedule, count, ops, lambda whole: ops.cast(whole, "float32"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and (self.schedule, self.accumulate) == (
            other.schedule,
            other.accumulate,
        )

    def __hash__(self) -> int:
        return hash((self.schedule, self.accumulate))

    def get_config(self) -> dict[str, Any]:
        """JSON-ready description.

        Raises:
            ValueError: the schedule has a mode that is a function, which JSON cannot hold.
        """
        return {"schedule": self.schedule.to_dict(), "accumulate": self.accumulate}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """Inverse of `get_config`."""
        return cls(ClosedForm.from_dict(config["schedule"]), config["accumulate"])


keras.saving.register_keras_serializable(package="onecycle")(Schedule)


class PolicyCallback(keras.callbacks.Callback):
    """Sets momentum (or beta_1) and weight decay by `policy` in `fit`, or refuses where that has no effect.

    The learning rate is the business of `Schedule`, which works under every back end and is saved with
    the model; the callback checks that the optimizer has the one of this policy. The optimizer's own
    count of updates says where the policy stands, so that a saved model goes on where it was.

    Args:
        policy: what to follow.

    Raises:
        ValueError: when training begins: the optimizer does not follow the policy, or cannot.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Check that the policy can be followed, and find out where it stands."""
        optimizer = _inner(self.model.optimizer)
        self._accumulate = optimizer.gradient_accumulation_steps or 1
        lr = self.policy.lr
        if lr is not None and Schedule(lr, self._accumulate) != optimizer._learning_rate:
            accumulate = f", accumulate={self._accumulate}" if self._accumulate > 1 else ""
            raise ValueError(
                "the optimizer's learning rate does not follow this policy: build it with "
                f"learning_rate=onecycle.keras.Schedule(policy.lr{accumulate})"
            )
        self._names = {
            hyper: _attribute(optimizer, hyper)
            for hyper in ("momentum", "weight_decay")
            if getattr(self.policy, hyper) is not None and _attribute(optimizer, hyper)
        }
        if self._names and not _is_live(self.model):
            raise ValueError(
                f"{' and '.join(self._names)} cannot change while this model trains: "
                f"the {keras.backend.backend()} back end compiles the value in. "
                "Compile the model with jit_compile=False, which is slower, use the torch back end, "
                "or make the policy without it, as with momentum=None"
            )
        if self._names and self.model.steps_per_execution > 1:
            raise ValueError("steps_per_execution must be 1: a callback is not called between its steps")
        if getattr(optimizer, self._names.get("momentum", ""), None) == 0:
            raise ValueError(
                "the optimizer was built with momentum=0 and has no place to keep one: "
                "give it momentum=0.9, or make the policy with momentum=None"
            )
        self._batches = int(optimizer._iterations)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes them
        """Set the values for the next update."""
        values = self.policy(self._batches // self._accumulate)
        for hyper, name in self._names.items():
            setattr(_inner(self.model.optimizer), name, values[hyper])
        self._batches += 1


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
        self._optimizer = _inner(model.optimizer)
        self._accumulate = self._optimizer.gradient_accumulation_steps or 1
        self._validation_data = validation_data
        self._batch_size = batch_size
        batches: Any = x if y is None else _Shuffled(x, y, batch_size)
        if isinstance(x, keras.utils.PyDataset):
            batches = _Ordered(x)
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
            if attribute := _attribute(self._optimizer, hyper):
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
            attribute = _attribute(self._optimizer, name)
            if _is_live(self._model):
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
            x, y, weight = keras.utils.unpack_x_y_sample_weight(_native(next(self._stream)))
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
        """How far the trainable weights lie from those of `state`, as a share of their size there."""
        trained = {id(weight) for weight in self._model.trainable_variables}
        pairs = [(ops.stop_gradient(v.value), was) for v, was in state["variables"] if id(v) in trained]
        way = sum(float(ops.sum(ops.square(ops.subtract(now, was)))) for now, was in pairs)
        size = sum(float(ops.sum(ops.square(was))) for _, was in pairs)
        return (way / size) ** 0.5 if size > 0 else float("nan")

    def _parts(self) -> list[Any]:
        """What `fit` builds at its first batch beside the model."""
        parts = (self._model._compile_loss, self._model._compile_metrics)
        return [part for part in parts if part is not None]

    def _model_mode(self) -> None:
        if keras.backend.backend() == "torch" and not self._model.training:
            self._model.train()


def range_test(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    validation_data: Any = None,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int | None = None,
    repeats: int = 1,
    sweep: _range_test.Sweep = "exponential",
    hyper: _range_test.Hyper = "lr",
    seed: int = 0,
    progress: bool = True,
    batches_per_value: int = 1,
    evaluations: int = 20,
) -> Curve:
    """Sweep the learning rate (or momentum, or weight decay) and record the loss; all is put back after.

    Weights, optimizer variables, metrics and random generators are exactly as before, however it ends.

    Args:
        model, x, y, batch_size, validation_data: see `Trial`.
        start, end, steps, repeats, sweep, hyper, seed, progress, batches_per_value, evaluations: see
            `onecycle.range_test`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range, or `hyper` has no effect under this back end.
    """
    return _range_test.range_test(
        Trial(model, x, y, batch_size=batch_size, validation_data=validation_data),
        start=start,
        end=end,
        steps=steps,
        repeats=repeats,
        sweep=sweep,
        hyper=hyper,
        seed=seed,
        progress=progress,
        batches_per_value=batches_per_value,
        evaluations=evaluations,
    )


def find_lr(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    total_steps: int,
    batch_size: int = 32,
    validation_data: Any = None,
    objective: _find.Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `total_steps` updates: range test, then short pilots.

    Args:
        model, x, y, batch_size, validation_data: see `Trial`.
        total_steps, objective, budget, seed, progress: see `onecycle.find_lr`.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.
    """
    return _find.find_lr(
        Trial(model, x, y, batch_size=batch_size, validation_data=validation_data),
        total_steps=total_steps,
        objective=objective,
        budget=budget,
        seed=seed,
        progress=progress,
    )


def _inner(optimizer: Any) -> Any:
    """The optimizer that a LossScaleOptimizer wraps, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _attribute(optimizer: Any, hyper: str) -> str:
    """What the optimizer calls `hyper`, empty where it has none."""
    names = {"momentum": ("momentum", "beta_1"), "weight_decay": ("weight_decay",)}[hyper]
    return next((name for name in names if getattr(optimizer, name, None) is not None), "")


def _is_live(model: Any) -> bool:
    """Whether each training step reads the optimizer's plain attributes, rather than the first alone."""
    name = keras.backend.backend()
    return bool(name == "torch" or model.run_eagerly or (name == "jax" and not model.jit_compile))


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


class _Shuffled:
    """Whole batches of `x` and `y`, in an order that the seed gives."""

    def __init__(self, x: Any, y: Any, batch_size: int) -> None:
        self._data = _native((x, y))
        lengths = {a.shape[0] if a.shape else 0 for a in keras.tree.flatten(self._data)}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(f"x and y must be arrays of one length, got {sorted(lengths)}")
        (self._length,) = lengths
        if not (isinstance(batch_size, int) and 1 <= batch_size <= self._length):
            raise ValueError(
                f"batch_size must lie between 1 and the {self._length} samples, got {batch_size!r}"
            )
        self._batch_size = batch_size

    def __len__(self) -> int:
        return int(self._length // self._batch_size)

    def __call__(self, seed: int) -> Iterator[Any]:
        order = np.random.default_rng(seed).permutation(self._length)
        for rows in np.split(order[: len(self) * self._batch_size], len(self)):
            yield keras.tree.map_structure(lambda a, rows=rows: a[rows], self._data)


class _Ordered:
    """The batches of a PyDataset, which need not end by itself when iterated."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return int(self._dataset.num_batches)

    def __iter__(self) -> Iterator[Any]:
        return (self._dataset[i] for i in range(len(self)))


def _native(batch: Any) -> Any:
    """Tensors of other frameworks as NumPy arrays, in lists and tuples of any depth."""
    return keras.tree.map_structure(
        lambda a: a if a is None or isinstance(a, np.ndarray) or ops.is_tensor(a) else np.asarray(a), batch
    )
