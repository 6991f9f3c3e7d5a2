"""Where the trials of a search run: in this process, in local processes, or on Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from reprlib import repr as brief
from typing import TYPE_CHECKING, Protocol

from onecycle.engines.local import Local as Local

if TYPE_CHECKING:
    from onecycle._jobs import Job, Result
    from onecycle.engines.ray import Ray as Ray
    from onecycle.tasks import Task

__all__ = ["Engine", "Local", "Ray", "choose"]


class Engine(Protocol):
    """Runs jobs; an engine is free in where and in which order."""

    @property
    def workers(self) -> int:
        """How many jobs it runs at once."""

    def run(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Each job with its result as soon as it is done; a worker that dies is replaced, its job redone."""

    def close(self) -> None:
        """Let go of what it holds; it can run again."""


def choose(engine: str | Engine) -> Engine:
    """The engine of that name: "local", "local:4" (processes), "ray"; an engine is given back as it is.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(engine, str):
        name, _, workers = engine.partition(":")
        if name == "local" and (not workers or (workers.isdecimal() and len(workers) < 5)):
            return Local(int(workers or 1))
        if engine == "ray":
            from onecycle.engines.ray import Ray

            return Ray()
    elif all(callable(getattr(engine, name, None)) for name in ("run", "close")):
        return engine
    raise ValueError(
        f"engine must be 'local', 'local:N' with N processes, 'ray' or an Engine, got {brief(engine)}"
    )


def __getattr__(name: str) -> object:
    if name == "Ray":
        from onecycle.engines.ray import Ray

        return Ray
    raise AttributeError(f"module 'onecycle.engines' has no attribute {name!r}")
