"""Where results lie, one JSON file a part, and what made them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.regret.files import made_with
from onecycle._files import decode, encode, write_file

RESULTS = Path(__file__).parents[1] / "results" / "reliability"


def read(part: str) -> dict[str, Any]:
    """Rows of one part by name, empty where it was never run."""
    path = RESULTS / f"{part}.json"
    if not path.is_file():
        return {}
    rows: dict[str, Any] = decode(json.loads(path.read_text(encoding="utf-8")))["rows"]
    return rows


def _commit() -> dict[str, str]:
    """The commit that this copy is of, where it is a repository."""
    asked = ["git", "-C", str(RESULTS.parent), "log", "-1", "--format=%h"]
    said = subprocess.run(asked, capture_output=True, text=True)
    return {} if said.returncode else {"commit": said.stdout.strip()}


def add(part: str, rows: Mapping[str, Any]) -> None:
    """Write rows of one part, in the place of those of the same name; each says what made it."""
    maker = {**made_with(), **_commit()}
    made = {name: {**row, "made_with": maker} for name, row in rows.items()}
    document = {"format": f"onecycle.reliability.{part}", "version": 1, "rows": {**read(part), **made}}
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_file(RESULTS / f"{part}.json", json.dumps(encode(document), indent=1, allow_nan=False) + "\n")
