"""Rows of results, one a run, kept as soon as they are there: what is done is not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret import files, jobs
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Job, Row
from benchmarks.regret.tasks import Task

Key = tuple[Any, ...]


def record(
    kind: str,
    columns: Sequence[str],
    tasks: Sequence[Task],
    run: Callable[..., Row],
    wanted: Callable[[Task], Iterable[Key]],
    *,
    workers: int = 2,
    results: Path = RESULTS,
    steps: Callable[[Task], int] = lambda task: task.total_steps,
) -> None:
    """Run `run(task's name, *key)` for each key that is missing.

    Args:
        kind: the folder, and the format of its files.
        columns: the fields of a row that are its key.
        tasks: the tasks.
        run: makes one row, with its key and what it `said` in it.
        wanted: the keys of a task.
        workers: processes.
        results: the folder of all results.
        steps: of one run, for the time that is left.
    """
    documents = {task.name: files.read(_path(kind, task, results), kind, task) for task in tasks}
    by_name = {task.name: task for task in tasks}

    def key(row: Row) -> Key:
        return tuple(row[column] for column in columns)

    def finish(job: Job, row: Row) -> Iterable[Job]:
        document = documents[job.task]
        document["rows"].append({name: value for name, value in row.items() if name != "said"})
        document["rows"].sort(key=key)
        files.write(_path(kind, by_name[job.task], results), document)
        return ()

    done = {name: set(map(key, document["rows"])) for name, document in documents.items()}
    jobs.spread(
        [
            Job(run, (name, *asked), name, steps(task))
            for name, task in by_name.items()
            for asked in wanted(task)
            if asked not in done[name]
        ],
        workers,
        finish,
    )


def load(kind: str, task: Task, results: Path = RESULTS) -> list[Row]:
    """The rows of a task that have been recorded."""
    rows: list[Row] = document(kind, task, results)["rows"]
    return rows


def document(kind: str, task: Task, results: Path = RESULTS) -> dict[str, Any]:
    """All that has been recorded of a task, with what it was made with."""
    return files.read(_path(kind, task, results), kind, task)


def _path(kind: str, task: Task, results: Path) -> Path:
    return results / kind / f"{task.name}.json"
