"""Pairs of measurements, taken in turn."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Make = Callable[[], Callable[[], object]]  # gets everything ready, and gives what is to be timed
Times = dict[str, list[float]]


def in_turn(contenders: Mapping[str, Make], repeats: int, clock: Callable[[], float] | None = None) -> Times:
    """Processor seconds of each contender, once a round, another one first in each round.

    Processor time, of all threads: on a machine with other work, time on the wall measures that work too.
    Another `clock` is for contenders that have processes of their own.
    """
    now = clock or time.process_time
    names = list(contenders)
    times: Times = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # so that to collect before each run is quick
    try:
        for turn in range(repeats + 1):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                run = contenders[name]()
                gc.collect()
                begin = now()
                run()
                if turn:  # the first round warms up
                    times[name].append(now() - begin)
    finally:
        gc.unfreeze()
    return times


def rows(case: Mapping[str, Any], times: Times, ours: str, *, per: int = 1) -> list[dict[str, Any]]:
    """One row a contender but `ours`: seconds of both (each `per`-th of a run), and theirs over ours."""
    return [
        {
            **case,
            "contender": name,
            "seconds": _short(min(theirs) / per),
            "seconds_ours": _short(min(times[ours]) / per),
            "ratio": spread([a / b for a, b in zip(theirs, times[ours], strict=True)]),
        }
        for name, theirs in times.items()
        if name != ours
    ]


def spread(numbers: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest, and how many there were."""
    return {
        "min": _short(min(numbers)),
        "median": _short(statistics.median(numbers)),
        "max": _short(max(numbers)),
        "pairs": len(numbers),
    }


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of the size that the time grows with: the slope of both logarithms."""
    import numpy as np

    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def _short(number: float) -> float:
    return float(f"{number:.4g}")
