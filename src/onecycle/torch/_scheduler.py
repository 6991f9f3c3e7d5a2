from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import count, repeat
from typing import Any, SupportsIndex

from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from onecycle._policy import Policy, check_policy
from onecycle.torch._hypers import Alike, Hypers

SHORTEST, LONGEST = 64, 2048  # steps that are looked ahead at first, and at most
_NOTHING: Iterator[int] = iter(())


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

    _step: int
    _known: Iterator[int]  # writes what the next step needs, and gives its number; ends where it cannot
    _look: int  # how many steps are looked ahead next
    _next_look: int  # and at which step

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
        check_policy(policy)
        self.optimizer = optimizer
        self._hypers = Hypers([optimizer])
        self._hypers.mark("lr")  # SequentialLR starts from it
        self._hypers.mark(*policy(step))
        self._led = False
        self._calls_more = 1
        self._policy = policy
        self.last_epoch = step
        _after_loading(optimizer, self)

    @property
    def policy(self) -> Policy | Callable[[int], Mapping[str, float]]:
        """Where the values come from; another one holds from the next step on."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy | Callable[[int], Mapping[str, float]]) -> None:
        self._policy = policy
        self._place(self.last_epoch)

    @property
    def last_epoch(self) -> int:
        """Completed updates; setting it sets the optimizer. A SequentialLR sets -1, which undoes that."""
        return self._step

    @last_epoch.setter
    def last_epoch(self, step: int) -> None:
        self._place(step)
        self._write()

    @property
    def _step_count(self) -> int:
        """Calls so far, as torch counts them: one more than updates, unless others raise it."""
        return self.last_epoch + self._calls_more

    @_step_count.setter
    def _step_count(self, count: int) -> None:
        self._calls_more = count - self.last_epoch

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        """Each group's rate as the optimizer came."""
        return self._hypers.first_seen("lr")

    def step(self, epoch: int | None = None) -> None:
        """Count one more completed update (or `epoch` of them in all) and set what the next one needs."""
        if epoch is not None:
            self.last_epoch = epoch
            return
        for step in self._known:
            self._step = step
            return
        self._step, self._known = self._step + 1, _NOTHING
        self._write()
        if self._step >= self._next_look:
            self._look_ahead()

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
        self._place(step)
        self._calls_more = 1
        self._write_loaded()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": ()}  # worked out anew

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _known=_NOTHING)
        _after_loading(self.optimizer, self)

    def _write_loaded(self) -> None:
        if not self._led:
            self.last_epoch = self.last_epoch

    def _place(self, step: int) -> None:
        """Be at `step`, with nothing known of the steps ahead."""
        self._step, self._known = step, _NOTHING
        self._next_look, self._look = max(step, 0), SHORTEST

    def _write(self) -> None:
        if self._step < 0:
            self._led = True
            self._hypers.undo()
        else:
            self._hypers.write(self._policy(self._step))

    def _look_ahead(self) -> None:
        """Work out what the next steps write, where that is one or two entries of groups that are alike.

        A step then writes without asking policy and groups, if it finds the very objects there that the
        last one wrote. Whatever else it finds, it takes the long way, and for as many steps as were known.
        """
        first, steps = self._step, self._look
        self._next_look, self._look = first + steps, min(8 * steps, LONGEST)
        series = self._policy._series(first, steps) if type(self._policy) is Policy else None
        alike = None if series is None else self._hypers.alike(series)
        if series is None or alike is None:
            return
        rates: list[float] = series["lr"]
        seconds: Iterable[Any] = rates if alike.key == "lr" else series["momentum"]
        if alike.others is not None:
            seconds = zip(seconds, *map(repeat, alike.others), strict=False)
        elif alike.key == "momentum" and min(seconds) <= 0:  # one that begins anew is more than an entry
            return
        ahead = zip(count(first), rates, seconds)
        if len(self.optimizer.param_groups) == 1:
            known = _to_one(self.optimizer, alike.key, ahead)
        else:
            known = _to_all(self.optimizer, alike, ahead)
        next(known)  # what is written already, as the very objects that are ahead
        self._known = known

    # The two entrances that SequentialLR uses.
    def _initial_step(self) -> None:
        self.step()

    def _update_lr(self, epoch: int | None = None) -> None:
        self.step(epoch)


Ahead = Iterator[tuple[int, float, Any]]  # step, rate, and what is written beside it


def _to_one(optimizer: Optimizer, key: str, ahead: Ahead) -> Iterator[int]:
    """Write to the one group what is `ahead`, a step at a turn; ends where others have written."""
    step, was, before = next(ahead)
    (group,) = optimizer.param_groups
    group["lr"] = was
    group[key] = before
    yield step
    with suppress(KeyError, ValueError):  # an entry that was taken out, or groups that came or went
        for step, rate, second in ahead:
            (group,) = optimizer.param_groups
            if group["lr"] is not was or group[key] is not before:
                return
            group["lr"] = was = rate
            group[key] = before = second
            yield step


def _to_all(optimizer: Optimizer, alike: Alike, ahead: Ahead) -> Iterator[int]:
    """Write to all groups what is `ahead`, a step at a turn; ends where others have written.

    It looks at the first group's rate, and at what each group has beside it: others may have a schedule of
    the second beta. Of SGD's momentum the first one does, as SGD alone needs nothing to begin one that was 0.
    """
    known, key, shares = optimizer.param_groups, alike.key, alike.shares
    size = len(known)
    each = key == "betas" or (key == "momentum" and type(optimizer) is not SGD)
    step, was, before = next(ahead)
    known[0]["lr"] = was
    for group in known if key != "lr" else ():
        group[key] = before
    yield step
    with suppress(KeyError):
        for step, rate, second in ahead:
            groups = optimizer.param_groups
            if groups is not known or len(groups) != size:
                return
            if groups[0]["lr"] is not was or not (each or groups[0][key] is before):
                return
            if shares is not None:
                for group, share in zip(groups, shares, strict=True):
                    if each and group[key] is not before:
                        return
                    group[key] = second
                    group["lr"] = rate * share
                groups[0]["lr"] = rate  # the very object
            elif each:
                for group in groups:
                    if group[key] is before:
                        group[key] = second
                        group["lr"] = rate
                    else:
                        return
            elif key != "lr":
                for group in groups:
                    group[key] = second
                    group["lr"] = rate
            else:
                for group in groups:
                    group["lr"] = rate
            was, before = rate, second
            yield step


def _integer(value: Any) -> int | None:
    """`value` as an int, NumPy's too; None where it is none."""
    try:
        return operator.index(value)
    except TypeError:
        return None


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
