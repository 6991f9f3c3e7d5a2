"""Results of one part of this benchmark in one JSON file, and what made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret.files import made_with
from onecycle._files import decode, encode, write_file

Row = dict[str, Any]


def rows(path: Path) -> list[Row]:
    """What `write` wrote; none where there is no file yet."""
    if not path.is_file():
        return []
    found: list[Row] = decode(json.loads(path.read_text(encoding="utf-8")))["rows"]
    return found


def write(path: Path, kind: str, rows: Sequence[Row], **settings: Any) -> dict[str, Any]:
    """Write one document, whole or not at all; gives it."""
    document = {
        "format": f"onecycle.recipe.{kind}",
        "version": 1,
        "made_with": made_with(),
        **settings,
        "rows": list(rows),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(encode(document), allow_nan=False, indent=1) + "\n")
    return document
