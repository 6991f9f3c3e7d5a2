"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import files

Row = Mapping[str, Any]
_SPREAD = ("median", "min", "max")
_TIMES = ("beyond Python", "in all")


def report(parts: Sequence[str], results: Path = files.RESULTS) -> str:
    """Tables of the parts that were measured.

    Raises:
        FileNotFoundError: one of them was not.
    """
    return "\n\n".join(_TABLES[part](files.read(part, results)) for part in parts)


def _ranges(document: Mapping[str, Any]) -> str:
    return _by_contender(document["rows"], {"ms a bare step": "ms a bare step"}, "over bare")


def _schedules(document: Mapping[str, Any]) -> str:
    return _table(
        ("schedule", "optimizer, groups", "ours, µs", "other", "µs", "times ours"),
        [
            (
                r["case"],
                f"{r['optimizer']}, {r['groups']}" if r["groups"] else "",
                _short(1e6 * r["seconds_ours"]),
                r["contender"],
                _short(1e6 * r["seconds"]),
                _spread(r["ratio"]),
            )
            for r in document["rows"]
        ],
    )


def _reading(document: Mapping[str, Any]) -> str:
    return _table(
        ("curve", "ours, ms", "other", "ms", "times ours"),
        [
            (
                r["case"],
                _short(1e3 * r["seconds_ours"]),
                r["contender"],
                _short(1e3 * r["seconds"]),
                _spread(r["ratio"]),
            )
            for r in document["rows"]
        ],
    )


def _start(document: Mapping[str, Any]) -> str:
    return _table(
        ("process", "ms beyond Python's own start", "ms in all"),
        [
            (r["case"], *(_spread({name: 1e3 * r[part][name] for name in _SPREAD}) for part in _TIMES))
            for r in document["rows"]
        ],
    )


def _memory(document: Mapping[str, Any]) -> str:
    rows = [{**r, "MB": round(r["state bytes"] / 1e6)} for r in document["rows"]]
    return _by_contender(rows, {"MB": "state, MB"}, "beyond bare, in states")


def _scale(document: Mapping[str, Any]) -> str:
    return _table(
        ("cost of", "sizes", "seconds", "exponent"),
        [
            (
                r["case"],
                ", ".join(f"{size:.0e}".replace("e+0", "e") for size in r["sizes"]),
                ", ".join(f"{second:.2g}" for second in r["seconds"]),
                r["exponent"],
            )
            for r in document["rows"]
        ],
    )


def _engines(document: Mapping[str, Any]) -> str:
    return _table(
        (
            "engine",
            "of",
            "at once",
            "trials a second",
            "over bare calls",
            "bytes sent with a trial",
            "with the task, once",
        ),
        [
            (
                r["contender"],
                r["case"],
                r["workers"],
                r["trials a second"],
                _spread(r["over bare"]),
                r["bytes with a trial"],
                r["bytes with the task, once"],
            )
            for r in document["rows"]
        ],
    )


def _by_contender(rows: Sequence[Row], columns: Mapping[str, str], measure: str) -> str:
    """One line a case, and one column a contender."""
    contenders = list(dict.fromkeys(r["contender"] for r in rows))
    cases: dict[str, list[Row]] = {}
    for r in rows:
        cases.setdefault(r["case"], []).append(r)
    return _table(
        ("", *columns.values(), *contenders),
        [
            (case, *(of[0][name] for name in columns), *(_spread(r[measure]) for r in of))
            for case, of in cases.items()
        ],
    )


def _spread(spread: Mapping[str, float]) -> str:
    median, least, greatest = (_short(spread[name]) for name in _SPREAD)
    return f"{median} ({least} to {greatest})"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 1000 else f"{number:#.3g}".rstrip(".")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


_TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "ranges": _ranges,
    "memory": _memory,
    "schedules": _schedules,
    "reading": _reading,
    "start": _start,
    "scale": _scale,
    "engines": _engines,
}
PARTS = tuple(_TABLES)
