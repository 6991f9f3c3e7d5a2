"""The short runs that a search is made of: what each is, what it gives, and where that is kept."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onecycle._curve import Curve
from onecycle._files import encode, load_json, read_text, write_file
from onecycle._policies import one_cycle
from onecycle._progress import described, watched
from onecycle._range_test import range_test
from onecycle._train import History, train

if TYPE_CHECKING:
    from onecycle.engines import Engine
    from onecycle.tasks import Task

LOOKS = 8  # evaluations in a run, evenly spread
POINTS = 200  # of a run's training loss that are kept
Momentum = tuple[float, float] | float | None
CYCLED: Momentum = (0.95, 0.85)


@dataclass(frozen=True)
class Job:
    """A range test, or a 1cycle run, of a fresh trial: all that its result depends on, as plain values.

    Args:
        stage: what it is to settle.
        kind: "sweep" or "run".
        seed: of the trial.
        steps: its length in updates.
        batch_size: None: as the task has it.
        weight_decay: None: as the task has it.
        max_lr: peak of a run.
        momentum: of a run, as `one_cycle` takes it.
        start: first rate of a sweep.
        end: last rate of a sweep.
    """

    stage: str
    kind: Literal["sweep", "run"]
    seed: int
    steps: int
    batch_size: int | None = None
    weight_decay: float | None = None
    max_lr: float | None = None
    momentum: Momentum = CYCLED
    start: float = 1e-7
    end: float = 10.0

    @property
    def key(self) -> str:
        """The same for jobs that do the same, whatever they are to settle."""
        facts = asdict(self)
        del facts["stage"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Name of its file, without the ending."""
        return f"{self.stage}-{self.key}"


@dataclass(frozen=True)
class Result:
    """What came out of a job.

    Attributes:
        loss: what a run is judged by: validation loss at its end, without validation data the mean
            training loss of its last tenth; infinite where it diverged or failed.
        train_loss: mean training loss of the last tenth.
        val_loss: validation loss at the end, None where there is none.
        diverged: whether the loss was not finite.
        samples: training samples that it saw.
        seconds: wall-clock time that it took.
        metrics: what the last evaluation measured beside the loss.
        norm: Euclidean norm of the parameters at the end, None where the trial does not tell.
        error: what the task raised, None if nothing.
        curve: of a sweep.
        history: of a run: its training loss, thinned, and its validation losses, by step.
    """

    loss: float
    train_loss: float = math.inf
    val_loss: float | None = None
    diverged: bool = False
    samples: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] | None = None
    norm: float | None = None
    error: str | None = None
    curve: Mapping[str, Any] | None = None
    history: Mapping[str, Any] | None = None

    def read_curve(self) -> Curve:
        """The curve of a sweep."""
        return Curve.from_json(json.dumps(encode(self.curve)))


def perform(task: Task, job: Job) -> Result:
    """Do a job in this process. What the task raises is told in the result, not raised."""
    begin = time.perf_counter()
    try:
        trial = task.trial(job.seed, batch_size=job.batch_size, weight_decay=job.weight_decay)
        result = (_sweep if job.kind == "sweep" else _run)(trial, job)
    except Exception as error:  # noqa: BLE001 - one job's failure is a finding about its settings
        result = Result(math.inf, error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
    return Result(**{**vars(result), "seconds": round(time.perf_counter() - begin, 4)})


def _sweep(trial: Any, job: Job) -> Result:
    curve = range_test(
        trial, start=job.start, end=job.end, steps=job.steps, seed=job.seed, progress=watched(), evaluations=0
    )
    return Result(
        loss=float(curve.loss.min(initial=math.inf)),
        samples=len(curve) * trial.size,
        curve=load_json(curve.to_json()),
    )


def _run(trial: Any, job: Job) -> Result:
    assert job.max_lr is not None
    every = max(math.ceil(job.steps / LOOKS), 1)
    policy = one_cycle(job.max_lr, job.steps, momentum=job.momentum)
    history = train(trial, policy, evaluate_every=every, progress=watched(), title=described(job))
    tail = [row["loss"] for row in history.rows[-max(job.steps // 10, 5) :]]
    train_loss = statistics.fmean(tail)
    val_loss = None if history.diverged else history.last("val_loss")
    loss = train_loss if val_loss is None else val_loss
    failed = history.diverged or not math.isfinite(loss)
    return Result(
        loss=math.inf if failed else loss,
        train_loss=train_loss,
        val_loss=val_loss,
        diverged=failed,
        samples=len(history.rows) * trial.size,
        metrics=dict(getattr(trial, "metrics", None) or {}),
        norm=getattr(trial, "norm", None),
        history=_thinned(history),
    )


def _thinned(history: History) -> dict[str, Any]:
    steps, losses = history.column("loss")
    width = math.ceil(len(steps) / POINTS)
    starts = range(0, len(steps), width)
    return {
        "step": [steps[i] for i in starts],
        "loss": [statistics.fmean(losses[i : i + width]) for i in starts],
        "val": [list(pair) for pair in zip(*history.column("val_loss"), strict=True)],
    }


class Ledger:
    """The finished jobs, each in a file of its own, so that none is ever done twice.

    Args:
        folder: where the files are; None: nothing outlives this object.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._jobs: dict[str, Job] = {}
        self._results: dict[str, Result] = {}
        self.names: dict[str, str] = {}  # of the files, by key
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.json")):
                job, result = read_record(path)
                if result.error is None:  # it may have been of the moment: it is tried again
                    self._keep(job, result, path.stem)

    def __contains__(self, job: Job) -> bool:
        return job.key in self._results

    def __getitem__(self, job: Job) -> Result:
        return self._results[job.key]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[tuple[Job, Result]]:
        """The jobs by name, with their results."""
        for key in sorted(self.names, key=self.names.__getitem__):
            yield self._jobs[key], self._results[key]

    def add(self, job: Job, result: Result) -> None:
        """Keep a result, on the disk first."""
        if self._folder is not None:
            write_file(self._folder / f"{job.name}.json", write_record(job, result))
        self._keep(job, result, job.name)

    def _keep(self, job: Job, result: Result, name: str) -> None:
        self._jobs[job.key], self._results[job.key], self.names[job.key] = job, result, name

    def complete(
        self, jobs: Iterable[Job], engine: Engine, task: Task, told: Callable[[Job, Result], None]
    ) -> Iterator[tuple[Job, Result]]:
        """Do what is not done yet, and give each job with its result, in the order asked for."""
        wanted = list(jobs)
        missing = list({job.key: job for job in reversed(wanted) if job not in self}.values())[::-1]
        for job, result in engine.run(task, missing):
            self.add(job, result)
            told(job, result)
        for job in wanted:
            yield job, self[job]


def write_record(job: Job, result: Result) -> str:
    """JSON text of a finished job."""
    document = {"format": "onecycle.trial", "version": 1, "job": asdict(job), "result": vars(result)}
    return json.dumps(encode(document), allow_nan=False) + "\n"


_REAL = (int, float)
_FIELDS: dict[str, Any] = {  # types by name, of a job and of a result
    **dict.fromkeys(("stage", "kind"), str),
    **dict.fromkeys(("seed", "steps", "samples"), int),
    **dict.fromkeys(("start", "end", "loss", "train_loss", "seconds"), _REAL),
    **dict.fromkeys(("weight_decay", "max_lr", "val_loss", "norm"), (*_REAL, type(None))),
    **dict.fromkeys(("metrics", "curve", "history"), (dict, type(None))),
    "batch_size": (int, type(None)),
    "momentum": (*_REAL, tuple, type(None)),
    "diverged": bool,
    "error": (str, type(None)),
}


def read_record(path: Path) -> tuple[Job, Result]:
    """Read what `write_record` wrote.

    Raises:
        ValueError: the file holds something else; the message names it.
    """
    try:
        document = load_json(read_text(path))
        if document["format"] != "onecycle.trial" or document["version"] != 1:
            raise ValueError(f"format {document['format']!r}, version {document['version']!r}")
        settings, values = document["job"], document["result"]
        if isinstance(settings["momentum"], list):
            settings["momentum"] = tuple(settings["momentum"])
        job, result = Job(**settings), Result(**values)
        _check_types(job, result)
        return job, result
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: this is no finished job of a search ({reason}): remove it") from error


def _check_types(job: Job, result: Result) -> None:
    for name, value in {**vars(job), **vars(result)}.items():
        if not isinstance(value, _FIELDS[name]):
            raise ValueError(f"{name} is {value!r:.40}")
    if job.kind not in ("sweep", "run"):
        raise ValueError(f"kind is {job.kind!r:.40}")
    if isinstance(job.momentum, tuple) and not _all_real(job.momentum, 2):
        raise ValueError(f"momentum is {job.momentum!r:.40}")
    if result.curve is not None:
        result.read_curve()
    if result.history is not None:
        steps, losses, val = (result.history[name] for name in ("step", "loss", "val"))
        if not (_all_real(steps) and _all_real(losses, len(steps)) and all(_all_real(at, 2) for at in val)):
            raise ValueError("history holds something else than numbers")


def _all_real(values: Any, count: int | None = None) -> bool:
    return count in (None, len(values)) and all(isinstance(value, _REAL) for value in values)
