"""A learning rate that was tried: range test, then short 1cycle pilots, within a budget of updates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._policies import _real, _whole, one_cycle
from onecycle._range_test import range_test
from onecycle._schedules import Array
from onecycle._suggest import Suggestion, edge
from onecycle._train import train
from onecycle._trial import Trial, preserved, reseed

Objective = Literal["train", "val"]
SWEEP = 100  # steps of a full range test
TRIED = (10**0.5, 1, 10**-0.5, 0.1)  # times the range test's suggestion
BELOW_EDGE = (10**-0.5, 0.1, 10**-1.5, 0.01)  # times where the loss rises, if that is all the test shows
SHORTEST = 40  # updates under which a pilot tells nothing
# Short runs do best at rates too high for the whole length.
TOO_HIGH = 10**0.25
SPAN = 10**0.5  # pilots half a decade apart cannot tell more


@dataclass(frozen=True)
class Pilot:
    """A short 1cycle run: its peak, its length, and the loss that it ended with (inf: it diverged)."""

    max_lr: float
    steps: int
    loss: float


@dataclass(frozen=True)
class Finding:
    """A suggestion with all that it rests on, and what it cost in updates."""

    suggestion: Suggestion
    curve: Curve
    pilots: tuple[Pilot, ...]
    cost: int


def find_lr(
    trial: Trial,
    *,
    total_steps: int,
    objective: Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `total_steps` updates: range test, then pilots.

    What the range test leaves of the budget goes into short 1cycle runs half a decade apart around its
    suggestion, all from the same saved state, if there is enough for runs that tell; the answer lies
    between what was read and what was tried. Where the loss of the range test never falls, as on a model
    that is fine-tuned or waits on a plateau, they run below the rate from which it rises, and decide alone.
    The trial is put back exactly as it was.

    Args:
        trial: what to train; see `onecycle.Trial`.
        total_steps: length of the training that the rate is for.
        objective: "val" or "train": the loss that the pilots are judged by; None: "val" where the trial
            has a validation loss.
        budget: share of `total_steps` that may be spent, > 0, the sweep included.
        seed: of the random generators and the data order.
        progress: show what runs, where standard error is a terminal.

    Returns:
        The suggestion; its `rule` is "pilots" where they decided.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        ValueError: an argument is out of its range.
    """
    return search(
        trial, total_steps=total_steps, objective=objective, budget=budget, seed=seed, progress=progress
    ).suggestion


def search(
    trial: Trial,
    *,
    total_steps: int,
    objective: Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
    start: float = 1e-7,
    end: float = 10.0,
    on_curve: Callable[[Curve], None] | None = None,
    on_pilot: Callable[[tuple[Pilot, ...]], None] | None = None,
) -> Finding:
    """`find_lr` with its evidence, which `on_curve` and `on_pilot` are given as soon as it is there."""
    if not isinstance(trial, Trial):
        raise TypeError(f"trial must be a Trial, such as onecycle.torch.Trial, got {type(trial).__name__}")
    total_steps, budget = _whole("total_steps", total_steps), _real("budget", budget)
    if objective not in (None, "train", "val"):
        raise ValueError(f"objective must be 'train', 'val' or None, got {objective!r}")
    updates = int(budget * total_steps) if math.isfinite(budget * total_steps) else 0
    if updates < 10:
        raise ValueError(
            f"budget must allow for a sweep of 10 updates, got {budget:g} of total_steps={total_steps}: "
            "raise one of them, or use range_test"
        )
    steps = min(SWEEP, updates)
    before = trial.evaluate() if objective != "train" else None
    if objective == "val" and before is None:
        raise ValueError("objective 'val' needs a val_loader, and the trial has none")
    curve = range_test(trial, start=start, end=end, steps=steps, seed=seed, progress=progress, evaluations=0)
    if on_curve is not None:
        on_curve(curve)
    left = updates - len(curve)
    read, rates, rises = _to_try(curve, left, updates)
    length = left // len(rates) if rates else 0
    if length < SHORTEST:
        assert read is not None
        return Finding(read, curve, (), len(curve))
    pilots = _run_pilots(trial, rates, length, objective, seed, progress, on_pilot)
    first = statistics.median(curve.loss[:10]) if before is None else before
    cost = len(curve) + length * len(rates)
    return Finding(_together(read, pilots, first, total_steps, rises), curve, pilots, cost)


def _to_try(curve: Curve, left: int, updates: int) -> tuple[Suggestion | None, list[float], float]:
    """What the curve suggests, the rates for pilots, which alone decide without that, and where it rises."""
    try:
        read = curve.suggest()
    except Inconclusive as refusal:
        rises = edge(curve)
        if rises is None:
            raise
        if left < 2 * SHORTEST:
            raise Inconclusive(
                f"the range test alone does not tell ({refusal.reason.partition(':')[0]}), and a budget of "
                f"{updates} updates leaves none for pilots, short runs that would: "
                f"give one of at least {updates - left + 2 * SHORTEST} updates"
            ) from None
        return None, [rises * factor for factor in BELOW_EDGE[: left // SHORTEST]], rises
    return read, [read.value * factor for factor in TRIED], math.inf


def _run_pilots(
    trial: Trial,
    rates: Sequence[float],
    length: int,
    objective: Objective | None,
    seed: int,
    progress: bool,
    on_pilot: Callable[[tuple[Pilot, ...]], None] | None,
) -> tuple[Pilot, ...]:
    pilots = []
    with preserved(trial) as state:
        for i, rate in enumerate(rates, start=1):
            trial.restore(state)
            reseed(trial, seed)
            title = f"pilot {i} of {len(rates)}, peak {rate:.2g}"
            look = 0 if objective == "train" else None
            history = train(
                trial, one_cycle(rate, length), evaluate_every=look, progress=progress, title=title
            )
            loss = history.last("val_loss")
            if loss is None:
                tail = [row["loss"] for row in history.rows[-max(length // 10, 5) :]]
                loss = statistics.fmean(tail)
            if history.diverged or not math.isfinite(loss):
                loss = math.inf
            pilots.append(Pilot(rate, length, loss))
            if on_pilot is not None:
                on_pilot(tuple(pilots))
    return tuple(pilots)


def _together(
    read: Suggestion | None,
    pilots: tuple[Pilot, ...],
    start: float,
    total_steps: int,
    rises: float = math.inf,
) -> Suggestion:
    """The geometric mean of what the range test suggests and what the pilots did best with.

    Each errs by about as much as the other, and mostly otherwise: docs/lab/2026-11-default-rule.md.
    """
    good = sorted((p for p in pilots if math.isfinite(p.loss)), key=lambda p: p.max_lr)
    if not good or min(p.loss for p in good) >= start:
        raise Inconclusive(
            f"none of {len(pilots)} pilots of {pilots[0].steps} updates ended below the loss it began with, "
            f"{start:.4g}: give a larger budget, or change the model's initialisation or normalisation"
        )
    best = min(good, key=lambda p: p.loss)
    tried = 10 ** _vertex(
        np.log10([p.max_lr for p in good]), np.array([p.loss for p in good]), good.index(best)
    )
    ended = (
        f"of {len(pilots)} 1cycle pilots of {best.steps} updates, {best.steps / total_steps:.0%} of the "
        f"length, the one at {best.max_lr:.2g} ended lowest, with loss {best.loss:.4g} from {start:.4g}"
    )
    if read is None:
        value = tried / TOO_HIGH
        reason = f"the loss of the range test never clearly falls, and rises from {rises:.2g} on; {ended}"
        low, high = value / SPAN, min(value * SPAN, max(rises, value))
        return Suggestion(value, low, high, "pilots", f"{reason}: a little below that for the length")
    value = math.sqrt(read.value * tried / TOO_HIGH)
    move = value / read.value
    return Suggestion(
        value=value,
        low=read.low * move,
        high=max(value, read.high * min(move, 1)),
        rule="pilots",
        reason=(
            f"the range test suggests {read.value:.2g}, and {ended}: their middle, a little below for the "
            f"length"
        ),
    )


def _vertex(x: Array, y: Array, least: int) -> float:
    """Where a parabola through the least point and its neighbours is least, within half a step of it."""
    if not 0 < least < len(x) - 1:
        return float(x[least])
    near = slice(least - 1, least + 2)
    bend, slope, _ = np.polyfit(x[near] - x[least], y[near], 2)
    half = (x[least + 1] - x[least - 1]) / 4
    return float(x[least] + (np.clip(-slope / (2 * bend), -half, half) if bend > 0 else 0))
