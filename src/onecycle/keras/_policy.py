"""A policy in `fit`: its rate as a schedule of the optimizer, and the rest by a callback."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from onecycle import _traced
from onecycle._policy import Policy
from onecycle._schedules import ClosedForm
from onecycle._schedules import Schedule as AnySchedule
from onecycle.keras._optimizer import attribute_of, inner, is_live


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
        optimizer = inner(self.model.optimizer)
        self._accumulate = optimizer.gradient_accumulation_steps or 1
        lr = self.policy.lr
        if lr is not None and Schedule(lr, self._accumulate) != optimizer._learning_rate:
            accumulate = f", accumulate={self._accumulate}" if self._accumulate > 1 else ""
            raise ValueError(
                "the optimizer's learning rate does not follow this policy: build it with "
                f"learning_rate=onecycle.keras.Schedule(policy.lr{accumulate})"
            )
        self._names = {
            hyper: attribute_of(optimizer, hyper)
            for hyper in ("momentum", "weight_decay")
            if getattr(self.policy, hyper) is not None and attribute_of(optimizer, hyper)
        }
        if self._names and not is_live(self.model):
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
            setattr(inner(self.model.optimizer), name, values[hyper])
        self._batches += 1
