"""Files written whole or not at all, and JSON in which every number survives."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_file(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write text (UTF-8) or bytes so that readers see the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing or cannot be written; nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    write_by(lambda temporary: temporary.write_bytes(content), path)


def write_by(write: Callable[[Path], object], path: str | os.PathLike[str]) -> None:
    """Have `write` fill a file of a temporary name beside `path`, which is flushed and takes its place.

    Raises:
        OSError: the folder is missing or cannot be written; nothing is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        write(temporary)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except FileNotFoundError:
        raise FileNotFoundError(f"{target}: no folder {target.parent}; create it first") from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed had begun to write, in `folder` and the folders in it."""
    for path in (*folder.glob(".*"), *folder.glob("*/.*")):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_text(path: str | os.PathLike[str]) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is no UTF-8 text: if it is text at all, save it as UTF-8") from None
    if "\0" in text:  # which UTF-16 and UTF-32 are full of
        raise ValueError(f"{path}: this is no UTF-8 text, as it holds zero bytes: save it as UTF-8")
    return text


def encode(data: Any) -> Any:
    """Replace non-finite numbers by the strings "NaN", "Infinity" and "-Infinity", at any depth."""
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    if isinstance(data, Mapping):
        return {key: encode(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [encode(value) for value in data]
    return data


def decode(data: Any) -> Any:
    """Undo `encode`."""
    if isinstance(data, str):
        return _NON_FINITE.get(data, data)
    if isinstance(data, dict):
        return {key: decode(value) for key, value in data.items()}
    if isinstance(data, list):
        return [decode(value) for value in data]
    return data


def write_document(kind: str, version: int, fields: Mapping[str, Any]) -> str:
    """Strict JSON text of a document that says what it is: {"format": kind, "version": version, ...}."""
    document = encode({"format": kind, "version": version, **fields})
    return json.dumps(document, allow_nan=False) + "\n"


def load_json(text: str) -> Any:
    """What the JSON text holds, decoded.

    Raises:
        ValueError: it is no JSON, or nested too deep to read.
    """
    try:
        return decode(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_document(
    text: str, kind: str, version: int, fields: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Read what `write_document` wrote.

    Args:
        text: the JSON text.
        kind: the "format" that it must have.
        version: the newest version that can be read.
        fields: type, or tuple of types, by name of each field; one that may be missing admits None.
        source: where the text comes from, for messages.

    Returns:
        The fields asked for; None for those that may be missing and are.

    Raises:
        ValueError: no JSON, another format, a newer version, a field missing or of a wrong type.
    """
    try:
        document = load_json(text)
    except ValueError as error:
        raise ValueError(f"{source}: this is no JSON ({error})") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found != kind:
        raise ValueError(f'{source}: expected a JSON object with "format": "{kind}", found {found!r}')
    written = document.get("version")
    if type(written) is not int:
        raise ValueError(f'{source}: expected a whole number as "version", found {written!r}')
    if written > version:
        raise ValueError(
            f"{source}: written in version {written} of {kind}, this onecycle reads up to {version}: "
            "upgrade onecycle"
        )
    for name, types in fields.items():
        if not isinstance(document.get(name), types):
            state = f"is of the wrong type: {document[name]!r:.40}" if name in document else "is missing"
            raise ValueError(f'{source}: the field "{name}" {state}')
    return {name: document.get(name) for name in fields}
