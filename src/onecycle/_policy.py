"""What a policy is: schedules by hyper-parameter name over one length of training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy.typing as npt

from onecycle._arguments import as_whole
from onecycle._schedules import Array, ClosedForm, Cycle, Piecewise, Schedule, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

HYPERS = ("lr", "momentum", "weight_decay")


@dataclass(frozen=True)
class Policy:
    """Schedules of the learning rate, momentum and weight decay over one length of training.

    `policy(step)` gives a dict of the values that hold for the update after `step` completed ones;
    `policy.lr`, `policy.momentum` and `policy.weight_decay` are the schedules, None where untouched.

    Args:
        total_steps: optimizer updates in all; None: without end.
        lr: schedule of the learning rate.
        momentum: schedule of the momentum, or of the first of Adam's betas.
        weight_decay: schedule of the weight decay.

    Raises:
        ValueError: `total_steps` is no int >= 1, or no schedule is given.
        TypeError: a schedule is not callable.
    """

    total_steps: int | None = None
    lr: Schedule = None  # type: ignore[assignment] # almost every policy has one
    momentum: Schedule | None = None
    weight_decay: Schedule | None = None
    _schedules: ClassVar[list[tuple[str, Schedule]]]  # those that are there; set on each instance

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            object.__setattr__(self, "total_steps", as_whole("total_steps", self.total_steps))
        for name in HYPERS:
            schedule = getattr(self, name)
            if schedule is not None and not callable(schedule):
                raise TypeError(
                    f"{name} must be a schedule, a callable from step to value, got {brief(schedule)}: "
                    f"for a fixed value use constant({brief(schedule)})"
                )
        schedules = [(name, getattr(self, name)) for name in HYPERS if getattr(self, name) is not None]
        if not schedules:
            raise ValueError(f"a policy needs a schedule for one of {', '.join(HYPERS)}")
        object.__setattr__(self, "_schedules", schedules)

    @overload
    def __call__(self, step: float) -> dict[str, float]: ...
    @overload
    def __call__(self, step: npt.NDArray[Any]) -> dict[str, Array]: ...
    def __call__(self, step: Any) -> Any:
        """Values by hyper-parameter name after `step` completed updates, an int or an array >= 0."""
        return {name: schedule(step) for name, schedule in self._schedules}

    def _repr_html_(self) -> str:
        from onecycle._views import drawn, policy_charts

        return drawn(policy_charts(self))

    def _series(self, first: int, count: int) -> dict[str, list[float]] | None:
        """Values at `count` steps from `first` on, to the last bit those of as many calls.

        None where a function of the user's is part of it: that is asked as training comes to a step.
        """
        for _, schedule in self._schedules:
            if type(schedule) not in (Piecewise, Cycle) or callable(getattr(schedule, "mode", None)):
                return None
        return {name: schedule._series(first, count) for name, schedule in self._schedules}  # type: ignore[attr-defined]

    def plot(self, path: str | Path | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw each schedule over the steps; returns the matplotlib Axes, and writes `path` if given."""
        from onecycle.plot import plot_policy

        return plot_policy(self, path, ax=ax)

    def to_json(self) -> str:
        """One JSON document that `from_json` turns back into an equal policy.

        Raises:
            ValueError: a schedule is a function of the user's, which JSON cannot hold.
        """
        document: dict[str, Any] = {
            "format": "onecycle.policy",
            "version": 1,
            "total_steps": self.total_steps,
        }
        for name, schedule in self._schedules:
            if not isinstance(schedule, ClosedForm):
                raise ValueError(
                    f"{name} is {schedule!r}, which JSON cannot hold: use this library's schedules"
                )
            document[name] = schedule.to_dict()
        return json.dumps(document)

    @staticmethod
    def from_json(text: str) -> Policy:
        """Policy written by `to_json`.

        Raises:
            ValueError: `text` is no policy; the message names what is wrong with it.
        """
        document = read_json(text)
        if not isinstance(document, dict) or document.get("format") != "onecycle.policy":
            raise ValueError('this JSON is no policy: its "format" is not "onecycle.policy"')
        if document.get("version") != 1:
            raise ValueError(
                f"policy version must be 1, got {brief(document.get('version'))}: "
                "a file of a newer version needs a newer onecycle"
            )
        if "total_steps" not in document:
            raise ValueError("a policy needs the field total_steps: null where it is without end")
        if unknown := document.keys() - {"format", "version", "total_steps", *HYPERS}:
            raise ValueError(f"a policy has no field {brief(min(unknown))}")
        schedules: dict[str, Any] = {}
        for name in HYPERS:
            if name in document:
                try:
                    schedules[name] = ClosedForm.from_dict(document[name])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
        return Policy(document["total_steps"], **schedules)


def check_policy(policy: object, step: int = 0) -> None:
    """Raise unless `policy` gives known hyper-parameters for `step`."""
    values = policy(step) if callable(policy) else None
    if not isinstance(values, Mapping):
        raise TypeError(
            "policy must be a Policy, or a callable from step to a dict such as {'lr': 0.1}, "
            f"got {brief(policy)}: see onecycle.one_cycle and onecycle.cyclical"
        )
    if unknown := set(values) - set(HYPERS):
        raise ValueError(
            f"policy gives {', '.join(sorted(map(repr, unknown)))}, known are {', '.join(map(repr, HYPERS))}"
        )
