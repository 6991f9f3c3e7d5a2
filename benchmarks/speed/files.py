"""Results, one JSON file a part, with the versions and the hardware that made them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.regret.data import ROOT
from benchmarks.regret.files import made_with
from onecycle._files import write_file

RESULTS = ROOT / "benchmarks" / "results" / "speed"
PEERS = ("torch-lr-finder", "fastai", "lightning", "pytorch-ignite")


def write(part: str, rows: Sequence[Mapping[str, Any]], results: Path = RESULTS) -> None:
    """Write one part, whole or not at all, a row to a line."""
    head = json.dumps(
        {
            "format": "onecycle.speed",
            "version": 1,
            "part": part,
            "made_with": {
                **made_with(),
                **{name: v for name in PEERS if (v := installed(name))},
                "threads": 1,
            },
        }
    )
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    results.mkdir(parents=True, exist_ok=True)
    write_file(results / f"{part}.json", head.removesuffix("}") + f', "rows": [\n{lines}\n]}}\n')


def read(part: str, results: Path = RESULTS) -> dict[str, Any]:
    """What `write` wrote.

    Raises:
        FileNotFoundError: that part was not measured yet.
    """
    path = results / f"{part}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not measured yet: run `python -m benchmarks.speed report {part}`")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
