"""Reading a curve of 100 to a million points, against fastai's default rule."""

from __future__ import annotations

from typing import Any

import numpy as np

import onecycle as oc
from benchmarks.speed.files import installed
from benchmarks.speed.timing import Make, in_turn, rows

QUADRATIC = 10_000  # points, beyond which fastai's rule takes minutes and then days


def curve_of(points: int) -> oc.Curve:
    """A sweep that falls, turns and explodes, with noise."""
    value = np.geomspace(1e-7, 10, points)
    loss = 2.3 - 1.5 / (1 + np.exp(-2 * (np.log10(value) + 2))) + np.maximum(value - 1, 0)
    return oc.Curve(value, loss + 0.05 * np.random.default_rng(0).standard_normal(points))


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """Rows for each number of points; `scale` makes fewer of them."""
    found: list[dict[str, Any]] = []
    for points in (100, 10_000, 1_000_000):
        points = max(int(points * scale), 50)
        one = curve_of(points)
        parts = (one.value.tolist(), one.loss.tolist())
        again = max(1_000 // points, 1)
        makes: dict[str, Make] = {
            "ours": _repeated(lambda parts=parts: oc.Curve(*parts).suggest(), again),
            "suggestion alone": _repeated(one.suggest, again),
            "our valley": _repeated(lambda one=one: one.suggest("valley"), again),
        }
        if installed("fastai") and points <= QUADRATIC * scale:
            from fastai.callback.schedule import valley

            rates, losses = (np.array(part) for part in (one.value, one.loss))
            makes["fastai valley"] = _repeated(
                lambda r=rates, v=losses: valley(_tensor(r), _tensor(v), len(r)),
                again,
            )
        times = in_turn(makes, 1 if "fastai valley" in makes and points > 1000 else repeats)
        found += rows({"case": f"{points} points", "points": points}, times, "ours", per=again)
    return found


def _repeated(read: Any, times: int) -> Make:
    def run() -> None:
        for _ in range(times):
            read()

    return lambda: run


def _tensor(numbers: Any) -> Any:
    import torch

    return torch.from_numpy(numbers)
