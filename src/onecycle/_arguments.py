"""What functions are given, checked: numbers as they are used, or an error that names the argument."""

from __future__ import annotations

import math
import operator
from reprlib import repr as brief
from typing import SupportsFloat, SupportsIndex


def as_real(name: str, value: SupportsFloat) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {brief(value)}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {brief(value)}")
    return number


def as_rate(name: str, value: SupportsFloat) -> float:
    """A finite number above 0."""
    number = as_real(name, value)
    if not number > 0:
        raise ValueError(f"{name} must be > 0, got {number:g}")
    return number


def as_share(name: str, value: SupportsFloat) -> float:
    """A number from 0 to 1."""
    number = as_real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be a share in [0, 1], got {number:g}")
    return number


def as_whole(name: str, value: SupportsIndex, least: int = 1) -> int:
    """A whole number from `least` on, in 64 bits."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number >= {least}, got {brief(value)}")
    if number >= 2**63:
        raise ValueError(f"{name} must be a whole number below 2**63, got {brief(value)}")
    return number


def check_functions(**given: object) -> None:
    """Raise unless each is a function or None."""
    for name, function in given.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function or None, got {brief(function)}")
