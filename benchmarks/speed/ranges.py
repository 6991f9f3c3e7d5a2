"""A range test over the bare loop of as many updates, and others' tests over the same loop."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import torch

from benchmarks.speed.finders import FINDERS
from benchmarks.speed.nets import NETS
from benchmarks.speed.timing import Make, in_turn, spread

# Net, batch, updates.
CASES = (
    ("MLP", 64, 100),
    ("MLP", 1, 100),
    ("MLP", 512, 100),
    ("ResNet-20", 1, 50),
    ("ResNet-20", 16, 30),
    ("Transformer", 1, 50),
    ("Transformer", 16, 30),
)


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """Rows of each contender over bare; `scale` shortens the tests."""
    torch.set_num_threads(1)
    found = []
    for net, batch, steps in CASES if scale >= 1 else CASES[:1]:
        steps = max(int(steps * scale), 10)

        def ready(name: str, net: str = net, batch: int = batch, steps: int = steps) -> Make:
            def make() -> Any:
                torch.manual_seed(0)
                return FINDERS[name](NETS[net](batch, steps))

            return make

        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            # Of the tiny net's runs, some hundredths of a second each, more are needed.
            times = in_turn({name: ready(name) for name in FINDERS}, repeats * 6 if net == "MLP" else repeats)
        for name in FINDERS:
            if name == "bare":
                continue
            pairs = list(zip(times[name], times["bare"], strict=True))
            found.append(
                {
                    "case": f"{net}, batch {batch}",
                    "contender": name,
                    "steps": steps,
                    "ms a bare step": float(f"{1e3 * min(times['bare']) / steps:.3g}"),
                    "over bare": spread([a / b for a, b in pairs]),
                    "least over least": float(f"{min(times[name]) / min(times['bare']):.4g}"),
                }
            )
    return found
