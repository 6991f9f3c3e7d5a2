"""A learning rate that was tried: range test, then short 1cycle pilots, within a budget of updates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from onecycle._anchors import anchors, edge
from onecycle._arguments import as_real, as_whole
from onecycle._curve import Curve
from onecycle._default_rule import facts_of
from onecycle._errors import Inconclusive
from onecycle._pilots import SHORTEST, Pilot, Run, Settled, plan, settle
from onecycle._policies import one_cycle
from onecycle._range_test import range_test
from onecycle._suggestion import Suggestion
from onecycle._train import train
from onecycle._trial import Trial, preserved, reseed

Objective = Literal["train", "val"]
SWEEP = 100  # steps of a full range test
BELOW_EDGE = 10**-0.75  # times where the loss rises, to begin at if that is all the test shows
# To begin at if it shows nothing; with SGD pilots have 1cycle's momentum, whatever the test had.
USUAL = {
    "SGD": 0.1,
    "Muon": 0.02,
    "Lion": 1e-4,
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "Nadam", "NAdamW", "RAdam", "RMSprop"), 1e-3),
}
FLAT = 1e-6  # of a loss is no noise, but rounding
REACH = 5.0  # times up and down to the ends of the interval then


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

    What the range test leaves of the budget goes into short 1cycle runs half a decade apart, all from the
    same saved state, if there is enough for runs that tell: from its suggestion on to where they end lowest,
    first very short ones and then longer ones, whose losses tell how the best rate moves with the length.
    Where the loss of the range test never falls, as on a model that is fine-tuned or waits on a plateau,
    they begin below the rate from which it rises; where it shows nothing but noise, at what people take for
    the optimizer without looking. The trial is put back exactly as it was.

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
    total_steps, budget = as_whole("total_steps", total_steps), as_real("budget", budget)
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
    seen = look(curve)
    read = seen.read
    how = plan(updates - len(curve), total_steps, least=3 if read else 2)
    if how is None:
        if read is not None:
            return Finding(read, curve, (), len(curve))
        raise Inconclusive(
            f"the range test alone does not tell ({seen.refusal}), and a budget of {updates} updates leaves "
            "none for pilots, short runs that would: "
            f"give one of at least {len(curve) + 2 * SHORTEST} updates"
        )
    first = statistics.median(curve.loss[:10]) if before is None else before
    pilots: list[Pilot] = []
    with preserved(trial) as state:
        run = _runner(trial, state, objective, seed, progress, pilots, on_pilot)
        settled = settle(run, seen.begin, how, total_steps, first, noise=seen.noise)
    cost = len(curve) + sum(pilot.steps for pilot in pilots)
    return Finding(suggestion(seen, settled), curve, tuple(pilots), cost)


@dataclass(frozen=True)
class Seen:
    """What a range test has to say before pilots.

    Attributes:
        read: what it suggests, None if nothing.
        refusal: why it does not.
        begin: the rate that pilots begin at.
        rises: the rate from which its loss rises, if that is all it shows; inf where it falls to the end.
        noise: what a pilot must gain to count, where the loss of the range test never fell.
    """

    read: Suggestion | None
    refusal: str = ""
    begin: float = math.nan
    rises: float = math.inf
    noise: float = 0.0


def look(curve: Curve) -> Seen:
    """What the curve suggests, or else the rate from which its loss rises, or else what people take.

    Raises:
        Inconclusive: there is no such rate either.
    """
    found = anchors(curve)
    try:
        read = curve.suggest()
    except Inconclusive as refusal:
        rises, usual = edge(curve), usual_lr(curve)
        why = refusal.reason.partition(":")[0]
        if rises is not None:
            return Seen(None, why, rises * BELOW_EDGE, math.inf if found.falling else rises)
        if usual is None or found.noise <= FLAT * abs(found.start):  # such a loss has nothing to show
            raise
        return Seen(None, why, usual, noise=found.noise)
    noise = found.noise if found.minimum is None else 0.0
    return Seen(read, begin=read.value, noise=noise)


def usual_lr(curve: Curve) -> float | None:
    """What people take for the optimizer of a curve without looking; None for one that is not known."""
    return USUAL.get(str(facts_of(curve).get("optimizer")))


def suggestion(seen: Seen, settled: Settled) -> Suggestion:
    """What the pilots settled on, with an interval and what the range test had to say."""
    value, read, rises = settled.value, seen.read, seen.rises
    if read is None:
        if not settled.told:
            raise Inconclusive(f"in the range test {seen.refusal}; {settled.reason}")
        rising = f"the loss of the range test never clearly falls, and rises from {rises:.2g} on"
        unread = f"in the range test {seen.refusal}, so pilots began at {seen.begin:.2g}"
        said = unread if rises == math.inf else rising
        low, high = value / REACH, min(value * REACH, max(rises, value))
    else:
        said = f"the range test suggests {read.value:.2g}" if settled.told else read.reason
        low = read.low / read.value * value
        high = max(value, min(read.high / read.value * value, settled.high))
    rule = "pilots" if settled.told or read is None else read.rule
    return Suggestion(value, low, high, rule, f"{said}; {settled.reason}")


def _runner(
    trial: Trial,
    state: object,
    objective: Objective | None,
    seed: int,
    progress: bool,
    pilots: list[Pilot],
    on_pilot: Callable[[tuple[Pilot, ...]], None] | None,
) -> Run:
    """Runs pilots of the trial, each from that state, and keeps them in `pilots`."""

    def run(rates: Sequence[float], steps: int) -> list[float]:
        for rate in rates:
            trial.restore(state)
            reseed(trial, seed)
            title = f"pilot {len(pilots) + 1}, peak {rate:.2g}"
            look = 0 if objective == "train" else None
            history = train(
                trial, one_cycle(rate, steps), evaluate_every=look, progress=progress, title=title
            )
            loss = history.last("val_loss")
            if loss is None:
                tail = [row["loss"] for row in history.rows[-max(steps // 10, 5) :]]
                loss = statistics.fmean(tail)
            if history.diverged or not math.isfinite(loss):
                loss = math.inf
            pilots.append(Pilot(rate, steps, loss))
            if on_pilot is not None:
                on_pilot(tuple(pilots))
        return [pilot.loss for pilot in pilots[len(pilots) - len(rates) :]]

    return run
