"""The runs of a search: which there is room for, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from onecycle._find import SWEEP
from onecycle._jobs import CYCLED, Job, Ledger, Momentum, Result
from onecycle._pilots import COSTS, LONGEST, SHORTEST, Plan, plan
from onecycle.engines import Engine
from onecycle.tasks import Task

Stage = Literal["rate", "noise", "batch_size", "weight_decay", "momentum", "check", "length", "search"]
RATE = 0.5  # share of the budget that pilots for the rate may take, and more where they would be too short
TELLING = 125  # updates of a pilot, from which on it need not be of an eighth of the training
SHORTER = 0.075  # of the training, then, so that the budget leaves room for what else is to be settled


@dataclass(frozen=True)
class Facts:
    """What a task is, as far as a search needs to know.

    Attributes:
        total_steps: length of the training in updates of `batch_size`.
        batch_size: the task's own.
        weight_decay: the task's own, None where it does not tell.
        tunes_batch_size: whether it can be set.
        tunes_weight_decay: whether it can be set.
        has_momentum: whether the optimizer has a momentum, or betas.
        optimizer: name of its class.
        steps_per_epoch: updates in a pass over the data, None where unknown.
        normalised: whether a layer normalises, or that is unknown.
    """

    total_steps: int
    batch_size: int
    weight_decay: float | None
    tunes_batch_size: bool
    tunes_weight_decay: bool
    has_momentum: bool
    optimizer: str
    steps_per_epoch: int | None
    normalised: bool = True

    @property
    def samples(self) -> int:
        """Of the whole training."""
        return self.total_steps * self.batch_size


@dataclass(frozen=True)
class Setting:
    """What a run is made with; None: as the task has it."""

    max_lr: float
    batch_size: int | None = None
    weight_decay: float | None = None
    momentum: Momentum = CYCLED


@dataclass(frozen=True)
class Decision:
    """One hyper-parameter settled, why, and the names of the runs that it rests on."""

    what: str
    value: Any
    reason: str
    low: float | None = None
    high: float | None = None
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Where a search stands.

    Attributes:
        stage: what is being settled.
        done: jobs finished.
        spent: full trainings spent so far.
        budget: full trainings that may be spent.
        job: the last one finished.
        result: what came out of it.
        decisions: what is settled so far.
    """

    stage: str
    done: int
    spent: float
    budget: float
    job: Job
    result: Result
    decisions: tuple[Decision, ...]


@dataclass
class Runs:
    """Runs of one task, each done and paid for once, within a budget.

    Args:
        task: builds the trials.
        facts: about it.
        budget: full trainings that may be spent, counted in samples.
        seed: of all jobs.
        engine: runs them.
        ledger: keeps them; what it holds already is not done again.
        tell: called after each job.
    """

    task: Task
    facts: Facts
    budget: float
    seed: int
    engine: Engine
    ledger: Ledger
    tell: Callable[[State], None]
    spent: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    _counted: set[str] = field(default_factory=set)  # keys of the jobs paid for

    @property
    def pilots(self) -> Plan | None:
        """Those for the rate, None where the budget does not allow for any."""
        total = self.facts.total_steps
        longest = max(min(int(LONGEST * total), TELLING), int(SHORTER * total))
        most = max(int(RATE * self.budget * total), math.ceil(COSTS * longest))
        return plan(min(most, int(self.budget * total) - self._swept), total, least=2, longest=longest)

    @property
    def _swept(self) -> int:
        """Updates of the range test."""
        return max(min(SWEEP, int(self.budget * self.facts.total_steps)), 10)

    @property
    def share(self) -> float:
        """Of the whole training that a pilot takes, those for the rate at first aside."""
        return (self.pilots.steps[-1] if self.pilots else SHORTEST) / self.facts.total_steps

    def room(self, share: float) -> int:
        """How many runs of that share are left in the budget."""
        return int((self.budget - self.spent) / share + 1e-9)

    def steps(self, setting: Setting, share: float) -> int:
        """Updates in which a setting sees that share of the training's samples."""
        size = setting.batch_size or self.facts.batch_size
        if share >= 1:
            return max(round(self.facts.samples / size), 1)
        # In whole updates of the task's own batch, so that half of it costs twice as much and no update more.
        own = int(share * self.facts.total_steps + 1e-6)
        return max(own * self.facts.batch_size // size, 1)

    def jobs(self, stage: Stage, settings: Sequence[Setting], share: float, seed: int = 0) -> list[Job]:
        """A run with each setting, over that share of the training's samples."""
        return [
            Job(
                stage,
                "run",
                self.seed + seed,
                self.steps(each, share),
                each.batch_size,
                each.weight_decay,
                each.max_lr,
                each.momentum,
            )
            for each in settings
        ]

    def do(self, jobs: Sequence[Job]) -> list[Result]:
        """Results of jobs, whose cost is counted once."""
        known = self._counted
        for job in jobs:
            if job.key not in known:
                known.add(job.key)
                self.spent += self.cost(job)

        def told(job: Job, result: Result) -> None:
            self.tell(
                State(
                    job.stage, len(self.ledger), self.spent, self.budget, job, result, tuple(self.decisions)
                )
            )

        return [result for _, result in self.ledger.complete(jobs, self.engine, self.task, told)]

    def fitting(self, jobs: Sequence[Job], reserve: float = 0.0) -> int:
        """How many of the jobs, from the first on, the budget allows for beside a reserve."""
        left = self.budget - self.spent - reserve + 1e-9
        for i, job in enumerate(jobs):
            left -= self.cost(job)
            if left < 0:
                return i
        return len(jobs)

    def due(self, jobs: Sequence[Job]) -> float:
        """What jobs cost, in full trainings, that are not paid for yet."""
        return sum(self.cost(job) for job in jobs if job.key not in self._counted)

    def cost(self, job: Job) -> float:
        """In full trainings, of updates or of samples, whichever is more."""
        size = job.batch_size or self.facts.batch_size
        return job.steps / self.facts.total_steps * max(size / self.facts.batch_size, 1)

    def _affordable(self, setting: Setting) -> float:
        """The share of the samples that a pilot of this batch size sees, to cost what others do."""
        return self.share * min((setting.batch_size or self.facts.batch_size) / self.facts.batch_size, 1)

    def _pilots(
        self, stage: Stage, settings: Sequence[Setting], share: float | None = None
    ) -> tuple[list[Result], tuple[str, ...]]:
        jobs = self.jobs(stage, settings, self._affordable(settings[0]) if share is None else share)
        results = self.do(jobs)
        return results, tuple(self.ledger.names[job.key] for job in jobs)

    def _decide(self, what: str, value: Any, reason: str, trials: Sequence[str] = (), **ends: float) -> None:
        self.decisions.append(Decision(what, value, reason, trials=tuple(trials), **ends))
