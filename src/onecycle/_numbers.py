"""Numbers as people write them."""

from __future__ import annotations

import math
import sys

NONE, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", " \N{MULTIPLICATION SIGN} "
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """A number as people write it: 0.0085, 12,000, or a power of ten where it is far from 1."""
    if value is None:
        return NONE
    if abs(value) > sys.float_info.max:  # infinite, or as large as only Python's int is
        return "∞" if value > 0 else f"{MINUS}∞"
    if math.isnan(value):
        return NONE
    if value == 0:
        return "0"
    size = abs(value)
    if isinstance(value, int) and size < 1e7:
        return f"{value:,}".replace("-", MINUS)
    if 1e-4 <= size < 1e7:
        rounded = float(f"{value:.{digits}g}")
        places = max(digits - 1 - math.floor(math.log10(abs(rounded)) + 1e-12), 0)
        text = f"{rounded:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        raised = decade(int(power))
        text = raised if mantissa == "1" else f"{mantissa}{TIMES}{raised}"
    return text.replace("-", MINUS)


def decade(power: int) -> str:
    """A power of ten, its exponent raised."""
    return "10" + str(power).translate(_RAISED)
