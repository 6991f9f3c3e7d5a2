"""Reading the logs of other tools: tables of any separator, Hugging Face's log history, JSON lines."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]  # numbers by column, or by role

# In order of preference, matched against the whole folded name: lower case, one "_" per separator.
_TRAIN = r"(?:train|training)"
_VALID = r"(?:val|valid|validation|test|eval)"
PATTERNS: dict[str, Sequence[str]] = {
    "lr": (
        r"lr|learning_?rate",
        rf"{_TRAIN}_(?:lr|learning_?rate)",
        r"eta|rate",
        r"(?:lr|learning_?rate)_.*(?<!momentum)(?<!weight_decay)",  # Lightning's monitor: lr-AdamW/pg1
        r".*_(?:lr|learning_?rate)",
    ),
    "momentum": (r"momentum|beta_?1", r".*_(?:momentum|beta_?1)"),
    "weight_decay": (r"weight_decay|wd", r".*_(?:weight_decay|wd)"),
    "loss": (
        r"loss",
        rf"{_TRAIN}_loss|loss_{_TRAIN}",
        rf"{_TRAIN}_loss_(?:step|batch)|loss_(?:step|batch)|batch_loss",
        rf".*_{_TRAIN}_loss|{_TRAIN}_loss_.*",
    ),
    "val_loss": (rf"{_VALID}_loss|loss_{_VALID}", rf"{_VALID}_loss_.*"),
    "step": (r"step|global_step|iteration|iter|it|train_global_step", r"batch", r"epoch"),
    "seed": (r"seed",),
    "noise": (r"noise",),
}


def fold(name: str) -> str:
    """Lower case, with every run of separators as one "_": "Train/Loss" and "train_loss" are one name."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def find_column(columns: Sequence[str], what: str) -> str | None:
    """The first of the columns that is called like `what` is in common logs, or None."""
    own = re.escape(fold(what))
    for pattern in PATTERNS.get(what, (own, rf".*_{own}")):
        for column in columns:
            if re.fullmatch(pattern, fold(column)):
                return column
    return None


def read_rows(text: str, source: str) -> tuple[list[str], list[Row]]:
    """Columns in order and rows of a log; a cell that is blank or holds no number is left out of its row.

    Raises:
        ValueError: the text is empty, or JSON that is no list of records.
    """
    if text.lstrip()[:1] in ("{", "["):
        records = _json_records(text, source)
        columns = list(dict.fromkeys(name for record in records for name in record))
        return columns, [_numbers(record, ".") for record in records]
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{source}: the file is empty")
    # numpy.savetxt comments its header.
    lines[0] = lines[0].lstrip("# ")
    separator = max("\t;,", key=lines[0].count)
    reader = csv.reader(lines, delimiter=separator)
    columns = [name.strip() for name in next(reader)]
    decimal = "," if separator == ";" else "."
    return columns, [_numbers(dict(zip(columns, cells, strict=False)), decimal) for cells in reader]


def _json_records(text: str, source: str) -> list[Mapping[str, Any]]:
    try:
        document = json.loads(text)
    except ValueError as whole:
        try:
            document = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise ValueError(f"{source}: this is no JSON ({whole})") from None
    if isinstance(document, dict):
        document = document.get("log_history")
    if not (isinstance(document, list) and document and all(isinstance(record, dict) for record in document)):
        raise ValueError(
            f'{source}: expected JSON with "log_history" (Hugging Face), a list of records, or "format": '
            f'"onecycle.curve"'
        )
    return document


def _numbers(record: Mapping[str, Any], decimal: str) -> Row:
    numbers = ((name, _number(cell, decimal)) for name, cell in record.items())
    return {name: number for name, number in numbers if number is not None}


def _number(cell: Any, decimal: str) -> float | None:
    try:
        return float(cell.replace(decimal, ".") if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        return None


def read_log(
    text: str, source: str, hyper: str, names: Mapping[str, str | None]
) -> dict[str, list[float] | list[int] | None]:
    """Pick value, loss, val_loss, step, seed and noise out of a log.

    Rows that hold only the rate or only the loss are joined where they carry the same step, as Lightning
    and Hugging Face write them; what then lacks rate or loss is dropped. A rate of NaN is none.

    Args:
        text: the log.
        source: where it comes from, for messages.
        hyper: the hyper-parameter that was swept: "lr", "momentum", ...
        names: the column by role ("value", "loss", ...) where the user named it, else None.

    Raises:
        ValueError: a column is missing, no row has both rate and loss, or a rate is infinite or negative.
    """
    columns, rows = read_rows(text, source)
    column = {}
    for role, name in names.items():
        if name is None:
            column[role] = find_column(columns, hyper if role == "value" else role)
            continue
        alike = [other for other in columns if other == name] or [c for c in columns if fold(c) == fold(name)]
        if not alike:
            raise ValueError(f"{source}: no column {name!r} ({role}=); the file has {_listed(columns)}")
        column[role] = alike[0]
    missing = [role for role in ("value", "loss") if column[role] is None]
    if missing:
        what = " and ".join(
            {"value": f"the {_SPOKEN.get(hyper, hyper)}", "loss": "the loss"}[m] for m in missing
        )
        how = ", ".join(f"{role}='NAME'" for role in missing)
        raise ValueError(
            f"{source}: found no column for {what}; the file has {_listed(columns)}; "
            f"name it: from_csv(path, {how})"
        )

    picked = [_pick(row, column, number) for number, row in enumerate(rows, 1)]
    points = [row for row in _joined(picked) if row["loss"] is not None and row["value"] is not None]
    if not points:
        raise ValueError(
            f"{source}: no row has both {column['value']!r} and {column['loss']!r}"
            + ("" if column["step"] else "; a step column would join rows that have one of them")
        )
    for point in points:
        if not 0 <= point["value"] < math.inf:
            raise ValueError(
                f"{source}: row {point['row']}: {column['value']!r} is {point['value']:g}; "
                f"every {hyper} must be finite and at least 0: leave that row out"
            )
    result: dict[str, Any] = {role: [point[role] for point in points] for role in column}
    for role in ("val_loss", "noise"):
        measured = [math.nan if number is None else number for number in result[role]]
        result[role] = None if all(math.isnan(number) for number in measured) else measured
    for role in ("step", "seed"):
        whole = all(number is not None and number.is_integer() for number in result[role])
        result[role] = [int(number) for number in result[role]] if whole else None
    return result


_SPOKEN = {"lr": "rate", "weight_decay": "weight decay"}
_BLANK: Row = dict.fromkeys(("value", "loss", "val_loss", "step", "seed", "noise", "row"))


def _pick(row: Row, column: Mapping[str, str | None], number: int) -> Row:
    # A loss of NaN is a finding, a rate of NaN is none. The number is for messages about the rate.
    picked = {role: row[name] for role, name in column.items() if name in row}
    if math.isnan(picked.get("value", 0.0)):
        del picked["value"]
    return picked | {"row": number} if "value" in picked else picked


def _joined(rows: Sequence[Row]) -> list[Row]:
    # Complete rows stand alone, since many of them can share one "epoch"; parts wait for their step.
    whole: list[Row] = []
    by_step: dict[float, Row] = {}
    for row in rows:
        if "value" in row and "loss" in row:
            point = _BLANK | row
            whole.append(point)
            if "step" in row:
                by_step[row["step"]] = point
        elif "step" in row:
            if row["step"] not in by_step:
                by_step[row["step"]] = dict(_BLANK)
                whole.append(by_step[row["step"]])
            point = by_step[row["step"]]
            point.update({role: number for role, number in row.items() if point[role] is None})
    return whole


def _listed(columns: Sequence[str]) -> str:
    return "the columns " + ", ".join(repr(column) for column in columns)
