"""The folder that a command fills: settings, curves, figures, recipe, metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._files import encode, remove_unfinished, write_file
from onecycle._range_test import versions
from onecycle._recipe import Recipe

RESULTS = (
    "recipe.toml",
    "report.html",
    "metrics.csv",
    "baseline.csv",
    "curves/*.json",
    "figures/*.png",
    "trials/*.json",
)


class RunDir:
    """Files of one command's run under one folder, each written whole or not at all.

    Without a folder nothing is written, and nothing need be asked. As a context manager it writes down
    how a run ended that did not come to its end.

    Args:
        path: the folder, made if absent; None: keep nothing.
        command: name of the command.
        settings: what it was called with.
        keep: whether an earlier run's results stay, because this one goes on with it; else they are
            removed, so that none of them passes for this run's.
    """

    def __init__(
        self, path: Path | None, command: str, settings: Mapping[str, Any], keep: bool = False
    ) -> None:
        self.path = path
        self._run: dict[str, Any] = {
            "format": "onecycle.run",
            "version": 1,
            "command": command,
            "settings": dict(settings),
        }
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path)
            if not keep and (path / "run.json").is_file():
                for pattern in RESULTS:
                    for old in path.glob(pattern):
                        old.unlink()
        self.finish("running")

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.finish("interrupted")
        elif isinstance(error, Inconclusive):
            self.finish("inconclusive", reason=error.reason)
        elif error is not None:
            self.finish("error", reason=f"{type(error).__name__}: {error}")

    def finish(self, status: str, **results: Any) -> None:
        """Write `run.json` with a status and whatever has come out."""
        self._run |= {"versions": versions(), **results, "status": status}
        if self.path is not None:
            write_file(
                self.path / "run.json", json.dumps(encode(self._run), indent=2, allow_nan=False) + "\n"
            )

    def file(self, name: str) -> Path | None:
        """Path of a file of that name, its folder made; None where nothing is kept."""
        if self.path is None:
            return None
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def curve(self, name: str, curve: Curve) -> None:
        """Keep a curve under `curves/`, and its figure where matplotlib is installed."""
        if (target := self.file(f"curves/{name}.json")) is not None:
            curve.save(target)
        self.figure(name, curve.plot)

    def figure(self, name: str, draw: Callable[[Path], Any]) -> None:
        """Keep a figure under `figures/`, where matplotlib is installed."""
        if (target := self.file(f"figures/{name}.png")) is not None:
            try:
                draw(target)
            except ImportError:
                target.unlink(missing_ok=True)

    def recipe(self, recipe: Recipe) -> None:
        """Keep `recipe.toml`."""
        if (target := self.file("recipe.toml")) is not None:
            recipe.save(target)
