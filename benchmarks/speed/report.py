"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import files

Row = Mapping[str, Any]


def report(parts: Sequence[str], results: Path = files.RESULTS) -> str:
    """Tables of the parts that were measured.

    Raises:
        FileNotFoundError: one of them was not.
    """
    return "\n\n".join(_TABLES[part](files.read(part, results)) for part in parts)


def _ranges(document: Mapping[str, Any]) -> str:
    return _table(
        ("range test", "ms a bare step", "contender", "over bare: median", "min", "max", "least over least"),
        [
            (r["case"], r["ms a bare step"], r["contender"], *_three(r["over bare"]), r["least over least"])
            for r in document["rows"]
        ],
    )


def _schedules(document: Mapping[str, Any]) -> str:
    return _table(
        (
            "schedule",
            "optimizer",
            "groups",
            "ours, µs",
            "contender",
            "µs",
            "times ours: median",
            "min",
            "max",
        ),
        [
            (
                r["case"],
                r["optimizer"],
                r["groups"] or "",
                f"{1e6 * r['seconds_ours']:.3g}",
                r["contender"],
                f"{1e6 * r['seconds']:.3g}",
                *_three(r["ratio"]),
            )
            for r in document["rows"]
        ],
    )


def _reading(document: Mapping[str, Any]) -> str:
    return _table(
        ("curve", "ours, ms", "contender", "ms", "times ours: median", "min", "max"),
        [
            (
                r["case"],
                f"{1e3 * r['seconds_ours']:.3g}",
                r["contender"],
                f"{1e3 * r['seconds']:.3g}",
                *_three(r["ratio"]),
            )
            for r in document["rows"]
        ],
    )


def _start(document: Mapping[str, Any]) -> str:
    return _table(
        ("process", "ms beyond Python's own start: median", "min", "max", "ms in all: median"),
        [
            (
                r["case"],
                *(f"{1e3 * float(number):.3g}" for number in _three(r["beyond Python"])),
                f"{1e3 * r['in all']['median']:.3g}",
            )
            for r in document["rows"]
        ],
    )


def _memory(document: Mapping[str, Any]) -> str:
    return _table(
        ("state", "MB", "contender", "peak beyond bare, in states: median", "min", "max"),
        [
            (
                r["case"],
                f"{r['state bytes'] / 1e6:.0f}",
                r["contender"],
                *_three(r["beyond bare, in states"]),
            )
            for r in document["rows"]
        ],
    )


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
            "over bare calls: median",
            "min",
            "max",
            "bytes with a trial",
            "with the task",
        ),
        [
            (
                r["contender"],
                r["case"],
                r["workers"],
                r["trials a second"],
                *_three(r["over bare"]),
                r["bytes with a trial"],
                r["bytes with the task, once"],
            )
            for r in document["rows"]
        ],
    )


def _three(spread: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{spread['median']:.3g}", f"{spread['min']:.3g}", f"{spread['max']:.3g}"


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
