"""The order of a search: what is tried, and what each choice rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onecycle import _beyond as beyond
from onecycle._anchors import edge
from onecycle._curve import Curve
from onecycle._decay import LASTS, forgets_in
from onecycle._default_rule import HEAVY_BALL
from onecycle._errors import Inconclusive
from onecycle._find import SWEEP, look, suggestion
from onecycle._jobs import Job, Momentum, Result
from onecycle._lengths import fit, outlook
from onecycle._pilots import STEP, better, scale, settle
from onecycle._runs import Decision, Runs, Setting

SHOWS = 0.1  # share of the training from which a run shows how it will go on
TIE = 0.02  # losses nearer than this share of the better one are as good
MOST = 0.1  # a share that a tie is at most, however far apart two seeds are
CHEAP = 0.1  # share of the budget that range tests at several decays may take
WORTH = 0.05  # of the loss must a batch of half the size gain: it needs twice the updates
OVERFITS = 0.1  # of the training loss is a validation loss higher of a net that fits more than it learns
LUCK = "it begins on a plateau, which a run leaves sooner or later by luck"
ROOT = "rate and decay go with its square root"
PEAK = 0.85  # momentum where the rate is highest
DECOUPLED = ("AdamW", "NAdamW", "Lion", "Muon")  # decay apart from the gradient


@dataclass(frozen=True)
class Found:
    """What a search ends with."""

    setting: Setting
    interval: tuple[float, float]
    total_steps: int
    decisions: tuple[Decision, ...]


@dataclass
class Search(Runs):
    """One search: a deterministic function of the results that its jobs give."""

    curves: dict[str, Curve] = field(default_factory=dict)
    tie: float = TIE
    _start: float = math.inf  # the loss that the range test began at
    _pilot: Result | None = None  # of those for the rate the one that ended lowest
    _plateau: bool = False  # whether the loss of the range test never fell
    _lift: float = 1.0  # from the rate that pilots do best with to that for the whole training
    _bears: float = 1.0  # likewise to the highest that they do as well with
    _seeds: tuple[str, ...] = ()  # names of the runs that the tie is from

    def recipe(self) -> Found:
        """Settle one thing after the other, each with those before it; then look beyond, if there is room."""
        whole = self.budget
        if whole <= beyond.FROM:
            return self._by_short_runs()
        self.budget = beyond.for_short_runs(whole)
        try:
            found = self._by_short_runs()
        finally:
            self.budget = whole
        return beyond.beyond(self, found)

    def _by_short_runs(self) -> Found:
        setting, (low, high) = self._rate()
        self._measure_noise(setting)
        setting = self._batch_size(setting)
        setting = self._weight_decay(setting)
        setting = self._momentum(setting)
        setting, steps = self._check(self._lifted(setting))
        interval = (setting.max_lr * low, setting.max_lr * high)
        return Found(setting, interval, steps, tuple(self.decisions))

    def _lifted(self, setting: Setting) -> Setting:
        """With the rate for the whole training in place of the one that pilots do best with."""
        return replace(setting, max_lr=setting.max_lr * self._lift)

    @property
    def usual_decay(self) -> float:
        """What a search begins at where the task has none."""
        return 0.01 if self.facts.optimizer in DECOUPLED else 1e-4

    def _measure_noise(self, setting: Setting) -> None:
        """From now on losses tie that are no further apart than those of two seeds."""
        if self.room(self.share) < 4:
            return
        jobs = [job for seed in (0, 1) for job in self.jobs("noise", [setting], self.share, seed)]
        one, two = self.do(jobs)
        self._seeds = tuple(self.ledger.names[job.key] for job in jobs)
        if math.isfinite(one.loss) and math.isfinite(two.loss):
            self.tie = max(TIE, min(abs(one.loss - two.loss) / scale(one.loss, two.loss, self._start), MOST))

    # Choices ----------------------------------------------------------------------------------------

    def _rate(self) -> tuple[Setting, tuple[float, float]]:
        """A range test, then pilots; the setting has the rate that pilots do best with.

        With it come the ends of the interval for the whole training, as factors to its rate.
        """
        facts = self.facts
        job = Job("rate", "sweep", self.seed, self._swept, None, facts.weight_decay)
        (result,) = self.do([job])
        if result.error is not None:
            raise ValueError(f"task {self.task.name} failed in a range test: {result.error}")
        self.curves["lr"] = curve = result.read_curve()
        self._start = float(np.median(curve.loss[:10]))
        names = [self.ledger.names[job.key]]
        size = facts.batch_size if facts.tunes_batch_size else None
        seen, how = look(curve), self.pilots
        read, self._plateau = seen.read, seen.noise > 0
        if how is None or self.room(self.share) < (3 if read else 2):
            if read is None:
                raise Inconclusive(
                    f"the range test alone does not tell ({seen.refusal}); a larger budget would allow "
                    "for pilots"
                )
            self._decide("max_lr", read.value, read.reason, names, low=read.low, high=read.high)
            start, found = Setting(read.value, size, facts.weight_decay), read
        else:

            def run(rates: Sequence[float], steps: int) -> list[float]:
                settings = [Setting(rate, size, facts.weight_decay) for rate in rates]
                jobs = self.jobs("rate", settings, steps / facts.total_steps)
                results = self.do(jobs)
                names.extend(self.ledger.names[job.key] for job in jobs)
                self._refuse_if_failed(min(results, key=lambda r: r.error is not None))
                self._pilot = min([*filter(None, [self._pilot]), *results], key=lambda r: r.loss)
                return [result.loss for result in results]

            settled = settle(run, seen.begin, how, facts.total_steps, self._start, noise=seen.noise)
            found = suggestion(seen, settled)
            self._decide("max_lr", found.value, found.reason, names, low=found.low, high=found.high)
            start = Setting(settled.tried, size, facts.weight_decay)
            self._lift = found.value / settled.tried
            self._bears = (settled.ties or settled.tried) / settled.tried
        return start, (found.low / found.value, found.high / found.value)

    def _batch_size(self, setting: Setting) -> Setting:
        """Half or a quarter of the batch, as runs over the same samples tell; twice if the net overfits."""
        facts, share = self.facts, self.share
        if not facts.tunes_batch_size:
            self._decide("batch_size", facts.batch_size, "the task fixes it")
            return setting
        if self._plateau:
            self._decide("batch_size", facts.batch_size, f"the task's own: {LUCK}")
            return setting
        # By more updates a short run of a net that overfits gains what the whole then loses.
        overfits = self._overfits()
        tried = [setting, self._resized(setting, 2 if overfits else 0.5)]
        due = self.due(self.jobs("batch_size", tried, share))
        if self._pilot is None or due > self.budget - self.spent + 1e-9:
            self._decide("batch_size", facts.batch_size, "the task's own: the budget does not allow for more")
            return setting
        (own, other), names = self._pilots("batch_size", tried, share)
        self._refuse_if_failed(own)
        choose = self._twice_or_own if overfits else self._less_or_own
        best, why = choose(tried, own, other)
        if best != setting:
            why += f", the rate to {self._lifted(best).max_lr:.2g}"
        table = f"{tried[0].batch_size}: {_told(own)}, {tried[1].batch_size}: {_told(other)}"
        self._decide(
            "batch_size",
            best.batch_size,
            f"loss over the same samples, {share:.1%} of the training, by batch size: {table}; {why}",
            tuple(dict.fromkeys(self._seeds + names)),
        )
        return best

    def _twice_or_own(self, tried: Sequence[Setting], own: Result, twice: Result) -> tuple[Setting, str]:
        why = "the best pilot overfits, so twice is taken if it ends as low"
        if twice.loss > own.loss:
            return tried[0], why
        return tried[1], f"{why}; {ROOT}"

    def _less_or_own(self, tried: Sequence[Setting], own: Result, half: Result) -> tuple[Setting, str]:
        """Where short runs with half of the batch bear more than the whole wants, it need not gain by it.

        What they bear goes with the square root of the batch; the rate for the whole stays, up to that.
        """
        setting, halved = tried
        whole = self._lifted(setting).max_lr
        gains = self._better(half, own, WORTH)
        seeds = ", as two seeds differ by as much" if self.tie > WORTH else ""
        gain = f"gain {max(WORTH, self.tie):.0%}{seeds}"
        if whole >= halved.max_lr * self._bears:
            why = f"{halved.batch_size} has to {gain}"
            return (halved, f"{why}; {ROOT}") if gains else (setting, why)
        why = f"{halved.batch_size} has to end as low, and a quarter is taken if that would {gain}, as they "
        why += f"bear more than the {whole:.2g} for the whole"
        if self._better(own, half):
            return setting, why
        best = self._resized(setting, 0.25) if gains else halved
        self._lift = min(whole / best.max_lr, self._bears)
        return best, f"{why}; the decay goes with its square root"

    def _overfits(self) -> bool:
        """Whether the best pilot's validation loss is above its training loss by a tenth."""
        pilot = self._pilot
        if pilot is None or pilot.val_loss is None:
            return False
        # Of a loss that is negative, what was gained is the measure.
        measure = pilot.train_loss if pilot.train_loss > 0 else self._start - pilot.train_loss
        return pilot.val_loss - pilot.train_loss > OVERFITS * measure

    def _resized(self, setting: Setting, factor: float) -> Setting:
        """The rate goes with the square root; so does the decay, whose time scale in epochs then stays."""
        assert setting.batch_size is not None
        size = max(int(setting.batch_size * factor), 1)
        root, decay = math.sqrt(size / setting.batch_size), setting.weight_decay
        decay = decay * root if decay and self.facts.tunes_weight_decay else decay
        return replace(setting, batch_size=size, max_lr=setting.max_lr * root, weight_decay=decay)

    def _weight_decay(self, setting: Setting) -> Setting:
        """The task's own decay, or the largest of those that end lower."""
        facts = self.facts
        if not facts.tunes_weight_decay or setting.weight_decay is None:
            self._decide("weight_decay", setting.weight_decay, "the task fixes it")
            return setting
        setting, which = self._bearable(setting)
        own = setting.weight_decay
        if self._plateau:
            self._decide("weight_decay", own, f"{which}: {LUCK}")
            return setting
        room = self.room(self.share) - 1
        if room < 2:
            self._decide("weight_decay", own, f"{which}: the budget does not allow for more")
            return setting
        base = own or self.usual_decay
        ladder = [own, base * 10, base / 10, 0.0] if own else [0.0, base, base * 10, base / 10]
        ladder, swept, curves = self._that_keep_the_rate(setting, ladder)
        tried = [replace(setting, weight_decay=decay) for decay in ladder[: min(room + 1, 4)]]
        results, names = self._pilots("weight_decay", tried)
        self._refuse_if_failed(results[0])
        value = self._decay([each.weight_decay or 0.0 for each in tried], results)
        if value > 0 and self.room(self.share) >= 4:
            # Half a decade further, as the paper bisects the exponent.
            tried.append(replace(setting, weight_decay=value * STEP))
            further, name = self._pilots("weight_decay", tried[-1:])
            results, names = results + further, names + name
            value = self._decay([each.weight_decay or 0.0 for each in tried], results)
        table = ", ".join(
            f"{each.weight_decay:.2g}: {_told(result)}"
            for each, result in sorted(
                zip(tried, results, strict=True), key=lambda pair: pair[0].weight_decay or 0.0
            )
        )
        which = f"{which}, as none" if value == own else "the largest that"
        self._decide(
            "weight_decay",
            value,
            f"{which} ends lower by more than {self.tie:.0%}; by decay: {table}"
            + swept
            + self._time_scale(setting, value),
            (*curves, *names),
        )
        return replace(setting, weight_decay=value)

    def _bearable(self, setting: Setting) -> tuple[Setting, str]:
        """The task's own decay, but no more than makes 1/e of a weight in four trainings; in words.

        More of it shrinks the function of a net that does not normalise its layers, and only pays where such
        a net overfits.
        """
        assert setting.weight_decay is not None
        own, pilot, whole = setting.weight_decay, self._pilot, self.steps(setting, 1.0)
        shrinks = not self.facts.normalised and self.facts.optimizer in ("SGD", *DECOUPLED)
        if not own or not shrinks or pilot is None or not 0 < (pilot.val_loss or 0) < math.inf:
            return setting, "the task's own"
        share = forgets_in(self._lifted(setting).max_lr, own, self.facts.optimizer) / whole
        if share >= LASTS or self._overfits():
            return setting, "the task's own"
        words = (
            f"what makes 1/e of a weight in {LASTS} such trainings, where the task's own, {own:.2g}, does in "
            f"{share:.2g} of one (no layer normalises, and the best pilot does not overfit)"
        )
        return replace(setting, weight_decay=own * share / LASTS), words

    def _that_keep_the_rate(
        self, setting: Setting, decays: list[float]
    ) -> tuple[list[float], str, tuple[str, ...]]:
        """Range tests at each decay, where they cost little: those go that lower the highest rate."""
        facts = self.facts
        if SWEEP * len(decays) > CHEAP * self.budget * facts.total_steps:
            return decays, "", ()
        jobs = [Job("weight_decay", "sweep", self.seed, SWEEP, setting.batch_size, each) for each in decays]
        ends = []
        for decay, result in zip(decays, self.do(jobs), strict=True):
            self._refuse_if_failed(result)
            curve = result.read_curve()
            self.curves[f"weight-decay-{decay:g}"] = curve
            ends.append(edge(curve) or math.inf)
        kept = [decay for decay, end in zip(decays, ends, strict=True) if end >= ends[0] / STEP]
        gone = ", ".join(f"{decay:.2g}" for decay in decays if decay not in kept)
        said = f"; in range tests {gone} lowered the highest rate" if gone else ""
        return kept, said, tuple(self.ledger.names[job.key] for job in jobs)

    def _time_scale(self, setting: Setting, decay: float) -> str:
        """In epochs: after how long the decay has made 1/e of a weight (Wang and Aitchison 2024)."""
        facts = self.facts
        if not decay or not facts.steps_per_epoch:
            return ""
        per_epoch = facts.steps_per_epoch * facts.batch_size / (setting.batch_size or facts.batch_size)
        updates = forgets_in(self._lifted(setting).max_lr, decay, facts.optimizer)
        return f"; time scale 1/(lr wd) about {updates / per_epoch:.2g} epochs"

    def _momentum(self, setting: Setting) -> Setting:
        """Constant momenta against the cycled one, each with the rate that makes as large steps."""
        if not self.facts.has_momentum:
            self._decide("momentum", setting.momentum, "the optimizer has none: the range has no effect")
            return setting
        if self._plateau:
            self._decide("momentum", setting.momentum, f"cycled, the paper's choice: {LUCK}")
            return setting
        room = self.room(self.share) - 1
        if room < 2:
            reason = "cycled, the paper's choice: the budget does not allow for comparing"
            self._decide("momentum", setting.momentum, reason)
            return setting
        constants = (0.9, 0.97, 0.95, 0.99)[: min(room, 2 if self.budget < 1.5 else 4)]
        tried = [setting, *(self._with_momentum(setting, m) for m in constants)]
        results, names = self._pilots("momentum", tried)
        best = min(range(len(tried)), key=lambda i: results[i].loss)
        if not self._better(results[best], results[0]):
            best = 0
        table = ", ".join(
            f"{_in_words(each.momentum)}: {_told(result)}"
            for each, result in zip(tried, results, strict=True)
        )
        self._decide("momentum", tried[best].momentum, f"loss by momentum, {table}", names)
        return tried[best]

    def _with_momentum(self, setting: Setting, momentum: float) -> Setting:
        factor = (1 - momentum) / (1 - PEAK) if self.facts.optimizer in HEAVY_BALL else 1.0
        return replace(setting, momentum=momentum, max_lr=setting.max_lr * factor)

    def _check(self, setting: Setting) -> tuple[Setting, int]:
        """A longer run with all of it; the length is cut where what was longer ended worse."""
        full = self.steps(setting, 1.0)
        pilot = self._affordable(setting)
        shorter = self.jobs("check", [setting], pilot)
        left = self.budget - self.spent - self.due(shorter)
        share = min(left * pilot / self.share, 1.0)
        if share < max(2 * pilot, SHOWS):
            self._decide("total_steps", full, "as asked for: the budget does not allow for a longer run")
            return setting, full
        jobs = [*shorter, *self.jobs("check", [setting], share)]
        short, long = self.do(jobs)
        names = tuple(self.ledger.names[job.key] for job in jobs)
        self._refuse_if_failed(long)
        if long.diverged:
            lower = replace(setting, max_lr=setting.max_lr / STEP)
            reason = (
                f"a run of {share:.0%} of the training diverged at {setting.max_lr:.2g}: half a decade less"
            )
            self._decide("max_lr", lower.max_lr, reason, names)
            self._decide("total_steps", full, "as asked for")
            return lower, full
        said = f"{pilot:.1%} of the training ended with loss {_told(short)}, {share:.0%} with {_told(long)}"
        words = fit(long)
        if self._better(short, long):
            steps = max(round(full * math.sqrt(pilot * share)), 1)
            said = f"{said}: longer is worse"
        else:
            steps = full
            ahead = outlook((jobs[0].steps, short.loss), (jobs[1].steps, long.loss), full)
            said = f"{said}; {ahead[1]}" if ahead else said
        self._decide("total_steps", steps, f"{said}; {words}" if words else said, names)
        return setting, steps

    # Comparing --------------------------------------------------------------------------------------

    def better(self, one: float, other: float, by: float = 0.0) -> bool:
        """Whether a loss is lower by more than a tie, and by that share."""
        return better(one, other, self._start, max(self.tie, by))

    def _better(self, one: Result, other: Result, by: float = 0.0) -> bool:
        return self.better(one.loss, other.loss, by)

    def _decay(self, decays: Sequence[float], results: Sequence[Result]) -> float:
        """The first, unless others end clearly lower: of these the largest that ends as low as any.

        Without validation data, the one of the least parameter norm among those that train as well
        (Brigato et al. 2024, "Tune without validation").
        """
        least = min(results, key=lambda result: result.loss)
        good = [(d, r) for d, r in zip(decays, results, strict=True) if not self._better(least, r)]
        if all(r.val_loss is None and r.norm is not None for _, r in good):
            return min(good, key=lambda pair: pair[1].norm or 0.0)[0]
        # What a decay does in a whole training is many times what a pilot shows of it.
        return max(d for d, _ in good) if self._better(least, results[0]) else decays[0]

    def _refuse_if_failed(self, result: Result) -> None:
        if result.error is not None:
            raise ValueError(f"task {self.task.name} failed in a pilot: {result.error}")


def _told(result: Result) -> str:
    if result.error is not None:
        return f"failed ({result.error.partition(':')[0]})"
    return "diverged" if result.diverged else f"{result.loss:.4g}"


def _in_words(momentum: Momentum) -> str:
    return f"{momentum[0]:g} to {momentum[1]:g}" if isinstance(momentum, tuple) else str(momentum)
