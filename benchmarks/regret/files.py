"""Where results lie, one JSON file a task, and what made them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret.data import ROOT
from benchmarks.regret.tasks import Task
from onecycle._files import decode, encode, write_file
from onecycle._range_test import versions

RESULTS = ROOT / "benchmarks" / "results" / "regret"


def read(path: Path, kind: str, task: Task) -> dict[str, Any]:
    """What `write` wrote; where there is no file yet, an empty list of rows.

    Raises:
        ValueError: the file is of another kind, or of the task as it was when its settings were others.
    """
    wanted = _header(kind, task)
    if not path.is_file():
        return {**wanted, "made_with": [], "rows": []}
    document: dict[str, Any] = decode(json.loads(path.read_text(encoding="utf-8")))
    different = [name for name, value in wanted.items() if document.get(name) != value]
    if different:
        name = different[0]
        raise ValueError(
            f"{path}: {name} is {document.get(name)!r}, and {wanted[name]!r} now: delete it to begin anew"
        )
    return document


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document, whole or not at all, a row to a line."""
    maker = made_with()
    makers = [*document["made_with"], *([] if maker in document["made_with"] else [maker])]
    settings = {name: value for name, value in document.items() if name != "rows"}
    head = json.dumps(encode({**settings, "made_with": makers}), allow_nan=False)
    rows = ",\n".join(json.dumps(encode(row), allow_nan=False) for row in document["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, head.removesuffix("}") + f', "rows": [\n{rows}\n]}}\n')


def made_with() -> dict[str, str]:
    """The versions and the hardware of this process."""
    return {**versions(), "system": f"{platform.system()} {platform.machine()}", "processor": _processor()}


def short(numbers: Sequence[float], digits: int = 7) -> list[float]:
    """Numbers with as many digits as single precision has."""
    return [float(f"{number:.{digits}g}") for number in numbers]


def _header(kind: str, task: Task) -> dict[str, Any]:
    return {
        "format": f"onecycle.regret.{kind}",
        "version": 1,
        "task": task.name,
        "about": task.about,
        "optimizer": task.optimizer,
        "batch_size": task.batch_size,
        "total_steps": task.total_steps,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor() or 'unknown'}"
