"""What the commands say of what they found, in words and as JSON."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onecycle._progress import short

if TYPE_CHECKING:
    from onecycle._curve import Curve
    from onecycle._pilots import Pilot
    from onecycle._recipe import Recipe
    from onecycle._suggestion import Suggestion
    from onecycle._train import History

RECIPE = ("max_lr", "interval", "batch_size", "weight_decay", "momentum", "total_steps")


def in_json(found: Suggestion) -> dict[str, Any]:
    """A suggestion as fields of a JSON document."""
    return {
        "max_lr": found.value,
        **({} if found.base_lr is None else {"base_lr": found.base_lr}),
        "use": found.use,
        "low": found.low,
        "high": found.high,
        "rule": found.rule,
        "reason": found.reason,
    }


def in_words(found: Suggestion) -> list[str]:
    """A suggestion, then its reason."""
    name = "lr" if found.use == "constant" else "max_lr"
    base = [] if found.base_lr is None else [f"base_lr {found.base_lr:.3g}"]
    return [
        *base,
        f"{name} {found.value:.3g}  (from {found.low:.2g} to {found.high:.2g}, by rule {found.rule})",
        wrapped(f"why: {found.reason}"),
    ]


def begun(settings: Mapping[str, Any]) -> list[str]:
    """What a command sets out to do, and with which releases."""
    from onecycle._range_test import versions

    return [
        ", ".join(f"{name} {value}" for name, value in settings.items()),
        "with " + ", ".join(f"{name} {version}" for name, version in versions().items()),
    ]


def swept(curve: Curve) -> str:
    """A range test in a line."""
    facts = curve.settings
    finite = [float(loss) for loss in curve.loss if math.isfinite(loss)]
    fall = f"loss {finite[0]:.4g} at first, {min(finite):.4g} at least" if finite else "no finite loss"
    return (
        f"range test: {len(curve)} of {facts['steps']} mini-batches from {facts['start']:.3g} to "
        f"{facts['end']:.3g}; {facts['endings'][0]}; {fall}"
    )


def tried(pilot: Pilot) -> str:
    """A pilot in a line."""
    came = f"loss {pilot.loss:.4g}" if math.isfinite(pilot.loss) else "diverged"
    return f"pilot: {pilot.steps} updates up to {pilot.max_lr:.3g}: {came}"


def looked(history: History, length: int) -> str:
    """The latest evaluation of a training in a line."""
    row = history.rows[-1]
    values = {name: row[name] for name in ("lr", "loss", "val_loss", *history.metrics) if name in row}
    words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    return f"step {row['step'] + 1} of {length}: {words}"


def in_a_line(recipe: Recipe) -> str:
    """A recipe in a line."""
    values = {name: getattr(recipe, name) for name in RECIPE if name != "interval"}
    return ", ".join(f"{name} {short(value)}" for name, value in values.items() if value is not None)


def wrapped(text: str) -> str:
    """The text in lines of a terminal's width; as it is, where it is read by a program."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return textwrap.fill(
        text, width, subsequent_indent="     ", break_long_words=False, break_on_hyphens=False
    )
