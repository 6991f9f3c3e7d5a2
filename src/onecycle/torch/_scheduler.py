from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from onecycle._policies import HYPERS, Policy
from onecycle.torch._hypers import Hypers


class Scheduler(LRScheduler):
    """Sets an optimizer's hyper-parameters from a policy: one `step()` per optimizer update.

    A `torch.optim.lr_scheduler.LRScheduler` that other tools accept. Its whole state is one integer,
    the count of completed updates; the policy is yours and never saved, so a run can be resumed with
    another length or peak. Building it, stepping it, and loading its state or the optimizer's all
    leave the optimizer with exactly `policy(step)`, in whatever order they are done. (Within a
    `SequentialLR`, where another may be in charge, loading leaves the optimizer as its own state says:
    there, as with torch's schedulers, build first and load then.)

    The rate (and weight decay) of the policy is the first param group's; the others keep their ratio
    to it. Past the policy's end its last values hold.

    Args:
        optimizer: whose `param_groups` are set; groups may be added later.
        policy: a `Policy`, or any callable from step to a dict of `lr`, `momentum`, `weight_decay`.
        start_step: completed updates so far; resuming needs no more than this.

    Raises:
        TypeError: `optimizer` has no param groups, or `policy` is no callable that gives a dict.
        ValueError: `start_step` is below 0, or the policy names a hyper-parameter that is not known.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy | Callable[[int], Mapping[str, float]],
        *,
        start_step: SupportsIndex = 0,
    ) -> None:
        # LRScheduler.__init__ is left out: it wraps optimizer.step, and keeps more state than a step.
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"optimizer must be a torch optimizer, got {type(optimizer).__name__}")
        if (step := _integer(start_step)) is None or step < 0:
            raise ValueError(
                f"start_step must be an int >= 0, got {start_step!r}: it counts completed updates"
            )
        _check_policy(policy)
        self.optimizer = optimizer
        self.policy = policy
        self._hypers = Hypers([optimizer])
        self._hypers.mark("lr")  # SequentialLR starts from it
        self._hypers.mark(*policy(step))
        self._step_count = step + 1
        self._led = False
        self.last_epoch = step
        _after_loading(optimizer, self)

    @property
    def last_epoch(self) -> int:
        """Completed updates; setting it sets the optimizer. A SequentialLR sets -1, which undoes that."""
        return self._step

    @last_epoch.setter
    def last_epoch(self, step: int) -> None:
        self._step = step
        if step < 0:
            self._led = True
            self._hypers.undo()
        else:
            self._hypers.write(self.policy(step))

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        """Each group's rate as the optimizer came."""
        return self._hypers.first_seen("lr")

    def step(self, epoch: int | None = None) -> None:
        """Count one more completed update (or `epoch` of them in all) and set what the next one needs."""
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch

    def get_last_lr(self) -> list[float]:  # type: ignore[override]
        """Each group's present rate."""
        return self._hypers.read("lr")

    get_lr = get_last_lr  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        """The count of completed updates, under torch's own name for it."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state of this or of any other torch scheduler; sets the optimizer at once.

        Raises:
            ValueError: `state_dict` holds no count of updates.
        """
        step = _integer(state_dict.get("last_epoch")) if isinstance(state_dict, Mapping) else None
        if step is None or step < -self._led:
            raise ValueError(f"state_dict must hold 'last_epoch', an int >= 0, got {state_dict!r:.120}")
        self._step_count = step + 1
        self._step = step
        self._write_loaded()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _after_loading(self.optimizer, self)

    def _write_loaded(self) -> None:
        if not self._led:
            self.last_epoch = self._step

    # The two entrances that SequentialLR uses.
    def _initial_step(self) -> None:
        self.step()

    def _update_lr(self, epoch: int | None = None) -> None:
        self.step(epoch)


def _integer(value: Any) -> int | None:
    """`value` as an int, NumPy's too; None where it is none."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def _check_policy(policy: object) -> None:
    values = policy(0) if callable(policy) else None
    if not isinstance(values, Mapping):
        raise TypeError(
            "policy must be a Policy, or a callable from step to a dict such as {'lr': 0.1}, "
            f"got {policy!r}: see onecycle.one_cycle and onecycle.cyclical"
        )
    if unknown := set(values) - set(HYPERS):
        raise ValueError(
            f"policy gives {', '.join(sorted(map(repr, unknown)))}, known are {', '.join(map(repr, HYPERS))}"
        )


def _after_loading(optimizer: Optimizer, scheduler: Scheduler) -> None:
    """Have `optimizer.load_state_dict` leave the values of the scheduler's policy, not the loaded ones."""
    there = weakref.ref(scheduler)

    def write(_: Optimizer) -> None:
        if (alive := there()) is not None:
            alive._write_loaded()

    try:
        handle = optimizer.register_load_state_dict_post_hook(write)
    except AttributeError:  # a wrapper, or an optimizer that is none of torch's
        return
    weakref.finalize(scheduler, handle.remove)
