from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from onecycle._arguments import as_real, as_whole
from onecycle._files import write_file
from onecycle._numbers import number
from onecycle._policies import Form, one_cycle
from onecycle._policy import Policy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Recipe:
    """All that is needed to train: rate and momentum ranges, weight decay, batch size, length.

    Args:
        max_lr: peak of the 1cycle policy.
        min_lr: its start; None: a tenth of the peak.
        interval: (low, high) within which `max_lr` is held to be as good.
        momentum: (high, low), one constant, or None: untouched.
        weight_decay: None: as the task has it.
        batch_size: samples per update; None: as the task has it.
        total_steps: optimizer updates; None: to be given to `policy`.
        form: of the 1cycle policy, see `one_cycle`.
        evidence: JSON-like facts that it rests on: task, curves, pilots, seeds, versions, cost.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    max_lr: float
    min_lr: float | None = None
    interval: tuple[float, float] | None = None
    momentum: tuple[float, float] | float | None = (0.95, 0.85)
    weight_decay: float | None = None
    batch_size: int | None = None
    total_steps: int | None = None
    form: Form = "paper"
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weight_decay is not None and not as_real("weight_decay", self.weight_decay) >= 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        for name in ("batch_size", "total_steps"):
            if getattr(self, name) is not None:
                as_whole(name, getattr(self, name))
        if self.interval is not None:
            if not isinstance(self.interval, (tuple, list)) or len(self.interval) != 2:
                raise ValueError(f"interval must be (low, high), got {brief(self.interval)}")
            for end in self.interval:
                as_real("each end of interval", end)
        if not isinstance(self.evidence, Mapping):
            raise ValueError(f"evidence must be a dict of facts, got {brief(self.evidence)}")
        self.policy(self.total_steps or 1)

    def policy(self, total_steps: int | None = None) -> Policy:
        """The 1cycle policy over `total_steps`, or over the recipe's own length.

        Raises:
            ValueError: neither says how long, or a value of the recipe is out of its range.
        """
        steps = self.total_steps if total_steps is None else total_steps
        if steps is None:
            raise ValueError("total_steps must be given: this recipe has no length of its own")
        return one_cycle(self.max_lr, steps, min_lr=self.min_lr, momentum=self.momentum, form=self.form)

    def _repr_html_(self) -> str:
        from onecycle._views import drawn, policy_charts, table_html

        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "evidence"}
        table = table_html((name, _words(value)) for name, value in fields.items() if value is not None)
        charts = [] if self.total_steps is None else policy_charts(self.policy())
        return table + drawn(charts, str(self.evidence.get("reason", "")))

    def save(self, path: str | Path) -> None:
        """Write the recipe as TOML, atomically."""
        import tomli_w

        document: dict[str, Any] = {"format": "onecycle.recipe", "version": 1}
        document |= {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        document["momentum"] = UNTOUCHED if self.momentum is None else self.momentum
        write_file(path, tomli_w.dumps(_without_none(document)))

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe that `save` or a person wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no recipe; the message names what is wrong with it.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"recipe {path} does not exist") from None
        except RecursionError:
            raise ValueError(f"{path} is no recipe: nested too deep") from None
        except ValueError as error:  # no UTF-8, no TOML, or a number of thousands of digits
            raise ValueError(f"{path} is no TOML: {error!s:.200}") from error
        if document.pop("format", None) != "onecycle.recipe":
            raise ValueError(f'{path} is no recipe: its format is not "onecycle.recipe"')
        if (version := document.pop("version", None)) != 1:
            raise ValueError(f"{path} is of version {brief(version)}: upgrade onecycle to read it")
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := set(document) - known:
            raise ValueError(
                f"{path} has unknown {', '.join(map(_named, sorted(unknown)[:9]))}; "
                f"known are {', '.join(sorted(known))}"
            )
        if not _is_number(document.get("max_lr")):
            raise ValueError(f"{path} must have max_lr, a number, got {brief(document.get('max_lr'))}")
        for name, kinds in _KINDS.items():
            if name in document and not isinstance(document[name], kinds):
                raise ValueError(f"{path} has {name} = {brief(document[name])}, which is of the wrong type")
        if document.get("momentum") == UNTOUCHED:
            document["momentum"] = None
        for name in ("interval", "momentum"):
            if isinstance(document.get(name), list):
                document[name] = tuple(document[name])
        try:
            return cls(**document)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error!s:.200}") from error


_KINDS: dict[str, tuple[type, ...]] = {
    "min_lr": (int, float),
    "interval": (list,),
    "momentum": (int, float, list, str),
    "weight_decay": (int, float),
    "batch_size": (int,),
    "total_steps": (int,),
    "form": (str,),
    "evidence": (dict,),
}


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " to ".join(map(_words, value))
    return value if isinstance(value, str) else number(value)


def _named(key: str) -> str:
    return key if key.isidentifier() and len(key) < 40 else f"{key!r:.40}"


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # a whole number may be too large to ask whether it is finite


def _without_none(value: Any) -> Any:
    """TOML has no null: what is None is left out."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value if item is not None]
    return value
