"""The learning rate, momentum and weight decay of optimizers, each under one name."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from onecycle._policy import HYPERS

Group = dict[str, Any]
_KNOWN = frozenset(HYPERS)
_SHARED = ("lr", "weight_decay")  # of these each group has its share, momentum is everyone's


class Alike(NamedTuple):
    """Param groups with plain numbers, which differ in their shares of the rate alone.

    Attributes:
        key: the entry that holds the momentum, "lr" where none is to be written.
        others: what comes after the momentum in `betas`, None where it is a number by itself.
        shares: each group's share of the rate, None where all have the whole; the first has.
    """

    key: str
    others: tuple[float, ...] | None
    shares: list[float] | None


class Hypers:
    """Sets hyper-parameters on every param group of some optimizers, the groups' ratios kept.

    A value of `lr` or `weight_decay` is the first group's; the others keep the ratio to it that they
    had when this object first saw them, or before a schedule began that has but scaled them since.
    `momentum` is SGD's momentum or the first of Adam's betas; a group with neither is left alone. A
    tensor is filled in place, so that compiled and captured optimizers see the change.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers
        self._first_seen: list[list[dict[str, float]]] = [[] for _ in optimizers]
        self._met: list[int] = []  # how many of each optimizer's groups were seen
        self._factors: dict[str, list[float]] = {}
        self._meet()

    def write(self, values: Mapping[str, float]) -> None:
        """Give each group its share of `values` by name."""
        for name in values:
            if name not in _KNOWN:
                raise ValueError(f"{name!r} cannot be set, only {', '.join(map(repr, HYPERS))}")
        if [len(optimizer.param_groups) for optimizer in self._optimizers] != self._met:
            self._meet()
        for name, value in values.items():
            factors = iter(self._factors.get(name, ()))
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    share = value if name == "momentum" else value * next(factors)
                    present = group.get(name)
                    if present and type(present) is float:  # what nearly all are, and the quickest to write
                        group[name] = share
                        continue
                    if name == "momentum" and value and present == 0:
                        _begin_momentum(getattr(optimizer, "state", {}), group["params"])
                    _write(group, name, share)

    def mark(self, *names: str) -> None:
        """Leave in each group what its ratio for those of `names` is taken from, as torch's schedulers do."""
        for group, seen in zip(self._groups(), self._seen(), strict=True):
            for name in set(names) & seen.keys() & set(_SHARED):
                group.setdefault(f"initial_{name}", seen[name])

    def undo(self) -> None:
        """Give each group back the momentum and weight decay it had when this object first saw it."""
        for group, seen in zip(self._groups(), self._seen(), strict=False):
            for name in seen.keys() - {"lr"}:
                _write(group, name, seen[name])

    def alike(self, names: Collection[str]) -> Alike | None:
        """The groups' common form, if they have one, and `names` are but the rate and the momentum."""
        self._meet()
        groups, shares = list(self._groups()), self._factors["lr"]
        if len(self._optimizers) > 1 or not {"lr"} <= set(names) <= {"lr", "momentum"} or shares[:1] != [1.0]:
            return None
        keys = {_momentum_key(group) for group in groups} if "momentum" in names else {"lr"}
        key = keys.pop() or "lr"
        others = groups[0]["betas"][1:] if key == "betas" else None
        for group in groups:
            if keys or type(group["lr"]) is not float or not _is_plain(key, group[key]):
                return None
            if others is not None and group["betas"][1:] != others:
                return None
        return Alike(key, others, None if shares == [1.0] * len(shares) else shares)

    @property
    def has_momentum(self) -> bool:
        """Whether any group has a momentum, or betas, to set."""
        return any(_read(group, "momentum") is not None for group in self._groups())

    def read(self, name: str) -> list[float]:
        """Each group's present value, 0 where it has none."""
        return [_read(group, name) or 0.0 for group in self._groups()]

    def first_seen(self, name: str) -> list[float]:
        """Each group's value when this object first saw it, 0 where it had none."""
        return [seen.get(name, 0.0) for seen in self._seen()]

    def _groups(self) -> Iterator[Group]:
        for optimizer in self._optimizers:
            yield from optimizer.param_groups

    def _seen(self) -> Iterator[dict[str, float]]:
        for groups in self._first_seen:
            yield from groups

    def _meet(self) -> None:
        """Take in groups that were added since, and forget those that were taken out."""
        if [len(optimizer.param_groups) for optimizer in self._optimizers] == self._met:
            return
        for optimizer, seen in zip(self._optimizers, self._first_seen, strict=True):
            groups = optimizer.param_groups
            columns = [_unscaled(groups[len(seen) :], name) for name in HYPERS]
            for row in zip(*columns, strict=True):
                seen.append({name: v for name, v in zip(HYPERS, row, strict=True) if v is not None})
            del seen[len(groups) :]
        self._met = [len(seen) for seen in self._first_seen]
        self._factors = {name: self._ratios(name) for name in _SHARED}

    def _ratios(self, name: str) -> list[float]:
        values = self.first_seen(name)
        reference = next((value for value in values if value), None)
        return [1.0 if reference is None else value / reference for value in values]


def _read(group: Group, name: str) -> float | None:
    if name == "momentum" and name not in group:
        return float(group["betas"][0]) if "betas" in group else None
    return float(group[name]) if group.get(name) is not None else None


def _momentum_key(group: Group) -> str | None:
    return "momentum" if "momentum" in group else "betas" if "betas" in group else None


def _is_plain(key: str, entry: Any) -> bool:
    """Whether an entry is a float or a tuple of them: no tensor to fill, and no momentum that is to begin."""
    if key == "betas":
        return type(entry) is tuple and all(type(number) is float for number in entry)
    return type(entry) is float and not (key == "momentum" and entry == 0)


def _unscaled(groups: Sequence[Group], name: str) -> list[float | None]:
    """Each group's value; where a schedule has but scaled them all, even to 0, what `mark` left of before."""
    values = [_read(group, name) for group in groups]
    before = [_read(group, f"initial_{name}") for group in groups]
    pairs = [(v, b) for v, b in zip(values, before, strict=True) if v is not None and b is not None]
    now, then = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    scaled = all(math.isclose(v * then, b * now, rel_tol=1e-6) for v, b in pairs)
    return before if scaled and len(pairs) == len(groups) else values


def _write(group: Group, name: str, value: float) -> None:
    if name in group:
        if isinstance(group[name], torch.Tensor):
            group[name].fill_(value)
        else:
            group[name] = value
    elif name == "momentum" and "betas" in group:
        first, *others = group["betas"]
        if isinstance(first, torch.Tensor):
            first.fill_(value)
        else:
            group["betas"] = (value, *others)


def _begin_momentum(state: Mapping[Any, Any], parameters: list[torch.Tensor]) -> None:
    """Give parameters that were so far updated without momentum the buffers they would have begun with."""
    for parameter in parameters:
        if state.get(parameter):
            state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
