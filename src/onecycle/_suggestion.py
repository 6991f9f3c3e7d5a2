"""A suggestion: a value to train with, its interval, and why."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from numbers import Real
from reprlib import repr as brief
from typing import Any, Literal, get_args

from onecycle._files import read_document, write_document

_FORMAT, _VERSION = "onecycle.suggestion", 1
_NUMBER, _TEXT = (int, float), str

Use = Literal["one_cycle", "cyclical", "constant"]
USES: tuple[Use, ...] = get_args(Use)


@dataclass(frozen=True)
class Suggestion:
    """A value to train with, its interval, and why.

    Args:
        value: the suggested value, in the units of the swept hyper-parameter.
        low: the low end of the interval.
        high: the high end of the interval.
        rule: the name of the rule that read it.
        reason: one plain sentence.
        use: what the value is for: "one_cycle" is the peak of a 1cycle policy, "cyclical" the maximum of
            a cyclical one, "constant" a rate that holds throughout.
        hyper: the hyper-parameter: "lr", "momentum", ...
        base_lr: the least rate of a cyclical policy; None for any other use.

    Raises:
        ValueError: not 0 < low <= value <= high < infinity, or not 0 < base_lr < value.
    """

    value: float
    low: float
    high: float
    rule: str
    reason: str
    use: str = "one_cycle"
    hyper: str = "lr"
    base_lr: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", *(() if self.base_lr is None else ("base_lr",))):
            given: object = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, Real):
                raise ValueError(f"{name} must be a number > 0, got {brief(given)}")
        if not 0 < self.low <= self.value <= self.high <= sys.float_info.max:
            raise ValueError(
                f"a suggestion needs 0 < low <= value <= high < infinity, "
                f"got low={self.low!r:.40}, value={self.value!r:.40}, high={self.high!r:.40}"
            )
        if self.base_lr is not None and not 0 < self.base_lr < self.value:
            raise ValueError(
                f"a suggestion needs 0 < base_lr < value, got base_lr={self.base_lr!r}, value={self.value!r}"
            )

    @property
    def max_lr(self) -> float:
        """The suggested learning rate.

        Raises:
            AttributeError: the suggestion is for another hyper-parameter.
        """
        if self.hyper != "lr":
            raise AttributeError(f"this suggestion is for {self.hyper}, not lr; it is in suggestion.value")
        return self.value

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        name = self.hyper if self.hyper != "lr" or self.use == "constant" else "max_lr"
        if self.base_lr is not None:
            name = f"base_lr {self.base_lr:.3g}, {name}"
        return f"{name} {self.value:.3g} ({self.low:.3g} to {self.high:.3g}), rule {self.rule}: {self.reason}"

    def _repr_html_(self) -> str:
        from onecycle._views import suggestion_html

        return suggestion_html(self)

    def to_json(self) -> str:
        """Strict JSON."""
        return write_document(_FORMAT, _VERSION, asdict(self))

    @classmethod
    def from_json(cls, text: str, *, source: str = "the JSON text") -> Suggestion:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else, or damaged; in one line that starts with `source`.
        """
        types: dict[str, Any] = {
            **dict.fromkeys(("value", "low", "high"), _NUMBER),
            **dict.fromkeys(("rule", "reason", "use", "hyper"), _TEXT),
            "base_lr": (*_NUMBER, type(None)),  # older files lack it
        }
        fields = read_document(text, _FORMAT, _VERSION, types, source)
        try:
            return cls(**fields)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
