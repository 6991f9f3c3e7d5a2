"""Names, numbers and counts as the page writes them, in HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from onecycle._numbers import number
from onecycle.report._read import numeric

NAMES = {
    "max_lr": "Peak learning rate",
    "momentum": "Momentum",
    "weight_decay": "Weight decay",
    "batch_size": "Batch size",
    "total_steps": "Updates",
    "val_loss": "validation loss",
    "loss": "training loss",
}


def name_of(name: str) -> str:
    """What a reader calls a recipe's field or a metric; not escaped."""
    return NAMES.get(name, name.replace("_", " "))


def metric_of(name: str, value: Any) -> str:
    """A metric's value: an accuracy in per cent, else four digits."""
    value = numeric(value)
    if value is not None and "accuracy" in name and 0 <= value <= 1:
        return f"{value:.1%}"
    return number(value, 4)


def counted(n: int, what: str) -> str:
    """A number of things, the plural where it is one."""
    if n == 1:
        return f"1 {what}"
    return f"{n:,} {what}{'es' if what.endswith('ch') else 's'}"


def value_of(value: Any) -> str:
    """A number, the two ends of what changes, or what else a file has there, escaped."""
    if isinstance(value, (list, tuple)):
        return " → ".join(value_of(part) for part in value)
    plain = int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value
    return number(plain) if isinstance(plain, int) and not isinstance(plain, bool) else _real(value)


def _real(value: Any) -> str:
    found = numeric(value)
    return escape(str(value)) if found is None and value is not None else number(found)


def span(low: Any, high: Any) -> str:
    """From where to where; nothing where one of them is no number."""
    return "" if numeric(low) is None or numeric(high) is None else f"{value_of(low)} to {value_of(high)}"


def outcome(values: Mapping[str, float]) -> str:
    """Metrics by name, in words."""
    return " and ".join(f"{escape(name_of(n))} {metric_of(n, v)}" for n, v in values.items())
