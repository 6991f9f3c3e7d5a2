"""The range test: drives a trial through a sweep of one hyper-parameter and records its loss."""

from __future__ import annotations

import math
import platform
import statistics
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, SupportsFloat

import numpy as np

import onecycle
from onecycle._arguments import as_whole
from onecycle._curve import Curve
from onecycle._progress import Show, live
from onecycle._schedules import Piecewise, exponential, linear
from onecycle._trial import Trial, moved, preserved, read_losses, reseed

Hyper = Literal["lr", "momentum", "weight_decay"]
Sweep = Literal["exponential", "linear"]
BLOCK = 10  # steps between two readings of the loss, so that no step waits for the device
SINGLE = float(np.finfo(np.float32).max)  # beyond, updates in single precision fail


def range_test(
    trial: Trial,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int | None = None,
    repeats: int = 1,
    sweep: Sweep = "exponential",
    hyper: Hyper = "lr",
    seed: int = 0,
    progress: bool = True,
    batches_per_value: int = 1,
    evaluations: int = 20,
) -> Curve:
    """Raise one hyper-parameter from `start` to `end` over a few hundred mini-batches; record the loss.

    Smith 2015 (arXiv 1506.01186), section 3.3, and Smith 2018 (arXiv 1803.09820), section 2, with a
    linear sweep; the exponential one covers more decades in fewer steps. The sweep ends early at the
    first loss that is not finite, and once the loss has risen above where it began by all that it had
    fallen. However it ends, the trial is put back exactly as it was.

    Args:
        trial: what to train; see `onecycle.Trial`.
        start: first value, >= 0; > 0 for an exponential sweep.
        end: last value, reached by the last step.
        steps: values tried, >= 10; None: 100.
        repeats: sweeps, each from the same state with a seed of its own: `seed`, `seed + 1`, … Each is read
            by itself: the suggestion differs less from seed to seed.
        sweep: "exponential" or, as in the papers, "linear".
        hyper: "lr", "momentum" or "weight_decay". The paper found the momentum test uninformative: the
            loss falls all the way up (arXiv 1803.09820, section 4.2).
        seed: of the random generators and the data order; the same seed gives the same curve.
        progress: show the sweep while it runs, where standard error is a terminal.
        batches_per_value: mini-batches trained at each value, each one a point of the curve.
        evaluations: how often, evenly spread, the validation loss is measured if the trial has one.

    Returns:
        The curve, up to `repeats * steps * batches_per_value` points.

    Raises:
        ValueError: an argument is out of its range; the message names it.
    """
    if not isinstance(trial, Trial):
        raise TypeError(f"trial must be a Trial, such as onecycle.torch.Trial, got {type(trial).__name__}")
    count = 100 if steps is None else steps
    schedule = _sweep(start, end, count, sweep, hyper)
    count, repeats = int(schedule.steps[-1]) + 1, as_whole("repeats", repeats)
    batches_per_value = as_whole("batches_per_value", batches_per_value)
    evaluations = as_whole("evaluations", evaluations, least=0)
    seed = as_whole("seed", seed, least=0)
    total = count * batches_per_value
    every = max(total // evaluations, 1) if evaluations else 0
    values = [value for value in schedule._series(0, count) for _ in range(batches_per_value)]
    sweeps: list[_Sweep] = []
    with preserved(trial) as state, live(f"range test of {hyper}", repeats * total, progress) as show:
        for repeat in range(repeats):
            if repeat:
                trial.restore(state)
            reseed(trial, seed + repeat)
            sweeps.append(_run(trial, state, hyper, values, every, show, done=repeat * total))
    lengths = [len(s.loss) for s in sweeps]

    def column(measured: Iterable[dict[int, float]]) -> list[float] | None:
        whole = [
            each.get(step, math.nan)
            for each, length in zip(measured, lengths, strict=True)
            for step in range(length)
        ]
        return None if all(map(math.isnan, whole)) else whole

    return Curve(
        value=[value for length in lengths for value in values[:length]],
        loss=[loss for s in sweeps for loss in s.loss],
        step=np.concatenate([np.arange(length) for length in lengths]),
        seed=np.repeat(np.arange(seed, seed + repeats), lengths),
        val_loss=column(s.val_loss for s in sweeps),
        hyper=hyper,
        sweep=sweep,
        settings={
            "start": float(schedule.values[0]),
            "end": float(schedule.values[-1]),
            "steps": count,
            "repeats": repeats,
            "seed": seed,
            "batches_per_value": batches_per_value,
            "batch_size": trial.size,
            "trial": getattr(trial, "describe", dict)(),
            "endings": [s.ending for s in sweeps],
            "versions": versions(),
        },
        moved=column(s.moved for s in sweeps),
    )


def versions() -> dict[str, str]:
    """What made a result: this library's, NumPy's and Python's versions, and torch's if it is loaded."""
    found = {
        "onecycle": onecycle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    if "torch" in sys.modules:
        found["torch"] = str(sys.modules["torch"].__version__)
    return found


@dataclass
class _Sweep:
    """What one sweep measured, and why it ended."""

    loss: list[float] = field(default_factory=list)
    val_loss: dict[int, float] = field(default_factory=dict)  # by step
    moved: dict[int, float] = field(default_factory=dict)  # likewise
    ending: str = "the sweep reached its end"


def _run(
    trial: Trial, state: object, hyper: str, values: Sequence[float], every: int, show: Show, *, done: int
) -> _Sweep:
    """One sweep from `state` over `values`, up to their end or to where it has seen enough."""
    sweep, stop = _Sweep(), Stop()
    waiting: list[SupportsFloat] = []

    def read() -> bool:
        losses = read_losses(trial, waiting)
        waiting.clear()
        sweep.loss += losses
        if hyper == "lr":
            sweep.moved[len(sweep.loss) - 1] = moved(trial, state)
        show(done + len(sweep.loss), values[len(sweep.loss) - 1], sweep.loss)
        if (reason := stop.after(losses)) is not None:
            sweep.ending = reason
        return reason is not None

    for step, value in enumerate(values):
        if every and step % every == 0:
            val = trial.evaluate()
            if val is None:
                every = 0
            else:
                sweep.val_loss[step] = val
        trial.set(**{hyper: value})
        waiting.append(trial.step())
        if len(waiting) == BLOCK and read():
            return sweep
    if waiting:
        read()
    return sweep


class Stop:
    """Decides when a sweep has seen enough, by rules that no scale, sign or offset of the loss can move.

    The level is a running median of five. It has diverged once it lies above where it began by more than
    it had fallen, and by more than ten times the noise from one mini-batch to the next.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._first: list[float] = []  # what the beginning and the noise are read from
        self._begin: float | None = None
        self._noise = 0.0
        self._last: deque[float] = deque(maxlen=5)
        self._least = math.inf

    def after(self, losses: Iterable[float]) -> str | None:
        """Why to stop after these further `losses`, None to go on."""
        last = self._last
        for loss in losses:
            if not math.isfinite(loss):
                return f"the loss was {loss} at step {self._steps}"
            self._steps += 1
            last.append(loss)
            if len(self._first) <= BLOCK:
                self._first.append(loss)
            if len(last) == 5 and (level := sorted(last)[2]) < self._least:
                self._least = level
        if self._steps < 2 * BLOCK:
            return None
        if self._begin is None:
            self._begin = statistics.median(self._first[:BLOCK])
            self._noise = statistics.median(abs(b - a) for a, b in pairwise(self._first))
        begin, noise = self._begin, self._noise
        rise = sorted(last)[2] - begin
        if rise > max(begin - self._least, 10 * noise):
            return f"the loss rose {rise:.3g} above its beginning"
        return None


def _sweep(start: float, end: float, steps: int, sweep: str, hyper: str) -> Piecewise:
    start, end = _value("start", start), _value("end", end)
    if hyper not in ("lr", "momentum", "weight_decay"):
        raise ValueError(f"hyper must be 'lr', 'momentum' or 'weight_decay', got {hyper!r}")
    if sweep not in ("exponential", "linear"):
        raise ValueError(f"sweep must be 'exponential' or 'linear', got {sweep!r}")
    if not start < end:
        raise ValueError(f"start must be below end, got start={start:g} and end={end:g}")
    if hyper == "momentum" and not end < 1:
        raise ValueError(f"end must be below 1 for momentum, got {end:g}: try start=0.5, end=0.99")
    if sweep == "exponential" and start == 0:
        raise ValueError("start must be > 0 for an exponential sweep, got 0: use sweep='linear'")
    try:
        steps = as_whole("steps", steps, least=10)
    except ValueError as error:
        raise ValueError(f"{error}: a curve needs points") from None
    return (exponential if sweep == "exponential" else linear)(start, end, steps - 1)


def _value(name: str, value: object) -> float:
    if not isinstance(value, (int, float, np.number)) or not 0 <= value <= SINGLE:
        raise ValueError(f"{name} must be a finite number >= 0 in single precision, got {value!r:.60}")
    return float(value)
