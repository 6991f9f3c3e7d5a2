"""Reading the logs of other tools: tables of any separator, Hugging Face's log history, JSON lines."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from onecycle._files import load_json

Row = dict[str, Any]  # numbers by column, or by role

# In order of preference, matched against the whole folded name: lower case, one "_" per separator.
_TRAIN = r"(?:train|training)"
_VALID = r"(?:val|valid|validation|test|eval)"
PATTERNS: dict[str, Sequence[str]] = {
    "lr": (
        r"lrs?|learning_?rates?",  # fastai's recorder: lrs, losses
        rf"{_TRAIN}_(?:lr|learning_?rate)",
        r"eta|rate",
        r"(?:lr|learning_?rate)_.*(?<!momentum)(?<!weight_decay)",  # Lightning's monitor: lr-AdamW/pg1
        r".*_(?:lr|learning_?rate)",
    ),
    "momentum": (r"momentum|beta_?1", r".*_(?:momentum|beta_?1)"),
    "weight_decay": (r"weight_decay|wd", r".*_(?:weight_decay|wd)"),
    "loss": (
        r"loss",
        r"losses",
        rf"{_TRAIN}_loss|loss_{_TRAIN}",
        rf"{_TRAIN}_loss_(?:step|batch)|loss_(?:step|batch)|batch_loss",
        rf".*_{_TRAIN}_loss|{_TRAIN}_loss_.*",
    ),
    "val_loss": (rf"{_VALID}_loss|loss_{_VALID}", rf"{_VALID}_loss_.*"),
    "step": (r"step|global_step|iteration|iter|it|train_global_step", r"batch", r"epoch"),
    "seed": (r"seed",),
    "noise": (r"noise",),
    "moved": (r"moved",),
}
SPARSE = ("val_loss", "noise", "moved")  # what may be measured at some points of a curve alone


_MOST = sys.float_info.max
_GAP = r"[\s;,]+"


def fold(name: str) -> str:
    """Lower case, with every run of separators as one "_": "Train/Loss" and "train_loss" are one name."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def find_column(columns: Sequence[str], what: str) -> str | None:
    """The first of the columns that is called like `what` is in common logs, or None."""
    own = re.escape(fold(what))
    for pattern in PATTERNS.get(what, (own, rf".*_{own}")):
        for column in columns:
            if any(re.fullmatch(pattern, fold(name)) for name in (column, _split_run(column)[1])):
                return column
    return None


def _split_run(column: str) -> tuple[str, str]:
    # Weights & Biases exports "run - loss" beside "run - loss__MIN" and "run - loss__MAX".
    run, dash, rest = column.partition(" - ")
    if dash and re.fullmatch(rf"{_TRAIN}|{_VALID}", fold(run)):
        return "", column
    return (run, rest) if dash else ("", column)


def read_rows(text: str, source: str) -> tuple[list[str], list[Row]]:
    """Columns in order and rows of a log; a cell that is blank or holds no number is left out of its row.

    Raises:
        ValueError: the text is empty, or JSON that is no list of records.
    """
    if text.lstrip()[:1] in ("{", "["):
        records = _json_records(text, source)
        columns = list(dict.fromkeys(name for record in records for name in record))
        return columns, [_numbers(record, ".", source) for record in records]
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{source}: the file is empty")
    header, body = _header(lines)
    columns, rows = _cells(header, body, source)
    return columns, [
        _numbers(dict(zip(columns, row, strict=False)), decimal, source) for row, decimal in rows
    ]


def _header(lines: Sequence[str]) -> tuple[str, list[str]]:
    # Comments may come first; numpy.savetxt comments its header too, the last of them then.
    body = [line for line in lines if not line.lstrip().startswith("#")]
    comments = list(takewhile(lambda line: line.lstrip().startswith("#"), lines))
    if comments and (not body or any(_number(cell, ".") is not None for cell in re.split(_GAP, body[0]))):
        return comments[-1].lstrip("# "), body
    return body[0], body[1:]


def _cells(header: str, body: Sequence[str], source: str) -> tuple[list[str], list[tuple[list[str], str]]]:
    # Columns, and each row with its decimal mark.
    separator = max("\t;,", key=header.count)
    first = body[0] if body else ""
    if not header.count(separator):
        if not any(map(first.count, "\t;,")) or _decimal_commas(first.split(), len(header.split())):
            return _spaced(header, body, source)
        # "# lr loss" above rows of another separator
        separator = max("\t;,", key=first.count)
        header = separator.join(header.split())
    elif body and not first.count(separator) and len(first.split()) == header.count(separator) + 1:
        # "# lr, loss" above rows that numpy.savetxt wrote
        return _spaced(" ".join(map(fold, header.split(separator))), body, source)
    reader = csv.reader([header, *body], delimiter=separator)
    try:
        columns, *rows = ([cell.strip() for cell in cells] for cells in reader)
    except csv.Error as error:
        raise ValueError(f"{source}: row {reader.line_num - 1}: {error}") from None
    decimal = {",": ".", ";": ","}.get(separator) or _decimal(body)
    return columns, [(row, decimal) for row in rows]


def _decimal_commas(cells: Sequence[str], columns: int) -> bool:
    return len(cells) == columns > 1 and all(re.fullmatch(r"[^,;]+(,[^,;]+)?", cell) for cell in cells)


def _spaced(header: str, body: Sequence[str], source: str) -> tuple[list[str], list[tuple[list[str], str]]]:
    columns, n = [name.strip("\"'") for name in header.split()], len(body[0].split()) if body else 0
    if n == len(columns) + 1:
        columns = ["", *columns]  # pandas leaves the index without a name
    wide = re.split(r"\s{2,}", header.strip())
    if body and n != len(columns):
        if n != len(wide):
            raise ValueError(
                f"{source}: {len(columns)} columns in the header, {n} in the first row: "
                "separate them by commas or tabs"
            )
        columns = wide
    decimal = _decimal(body)
    return columns, [(line.split(), decimal) for line in body]


def _decimal(body: Sequence[str]) -> str:
    return "." if any(re.search(r"\d\.\d", line) for line in body) else ","


def _json_records(text: str, source: str) -> list[Mapping[str, Any]]:
    try:
        document = load_json(text)
    except ValueError as whole:
        try:
            document = [load_json(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise ValueError(f"{source}: this is no JSON ({whole})") from None
    if isinstance(document, dict):
        if document.get("format") == "onecycle.curve":
            raise ValueError(
                f"{source}: this is a curve of this library, which has no columns to name: read it by "
                "Curve.load, or without --lr and --loss on the command line"
            )
        document = document.get("log_history")
    if not (isinstance(document, list) and document and all(isinstance(record, dict) for record in document)):
        raise ValueError(
            f'{source}: expected JSON with "log_history" (Hugging Face), a list of records, or "format": '
            f'"onecycle.curve"'
        )
    return document


def _numbers(record: Mapping[str, Any], decimal: str, source: str) -> Row:
    try:
        numbers = [(name, _number(cell, decimal)) for name, cell in record.items()]
    except OverflowError:
        name = next(name for name, cell in record.items() if isinstance(cell, int) and abs(cell) > _MOST)
        raise ValueError(
            f"{source}: {name!r:.{_LONG}} holds a number that is too large for a float"
        ) from None
    return {name: number for name, number in numbers if number is not None}


def _number(cell: Any, decimal: str) -> float | None:
    try:
        return float(cell.replace(decimal, ".") if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        return None


def read_log(
    text: str, source: str, hyper: str, names: Mapping[str, str | None]
) -> dict[str, list[float] | list[int] | None]:
    """Pick value, loss, step, seed and what is `SPARSE` out of a log.

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
    column: dict[str, str | None] = {}
    for role, name in names.items():
        if name is None:
            # The rate and loss of one run, where the file holds several; "value" is the first role.
            run = _split_run(column.get("value") or "")[0]
            own = [c for c in columns if not run or _split_run(c)[0] in ("", run)]
            column[role] = find_column(own, hyper if role == "value" else role)
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
        how = " and ".join(f"{role}='NAME'" for role in missing) + " of Curve.from_csv"
        if hyper == "lr":
            options = " and ".join({"value": "--lr NAME", "loss": "--loss NAME"}[m] for m in missing)
            how += f", or {options} on the command line"
        raise ValueError(
            f"{source}: found no column for {what}; the file has {_listed(columns)}; "
            f"name {'them' if missing[1:] else 'it'}: {how}"
        )

    picked = [_pick(row, column, number) for number, row in enumerate(rows, 1)]
    points = [row for row in _joined(picked) if row["loss"] is not None and row["value"] is not None]
    if not points:
        raise ValueError(
            f"{source}: no row has both {column['value']!r:.{_LONG}} and {column['loss']!r:.{_LONG}}"
            + ("" if column["step"] else "; a step column would join rows that have one of them")
        )
    for point in points:
        if not 0 <= point["value"] < math.inf:
            raise ValueError(
                f"{source}: row {point['row']}: {column['value']!r:.{_LONG}} is {point['value']:g}; "
                f"every {hyper} must be finite and at least 0: leave that row out"
            )
    result: dict[str, Any] = {role: [point[role] for point in points] for role in column}
    for role in SPARSE:
        measured = [math.nan if number is None else number for number in result[role]]
        result[role] = None if all(math.isnan(number) for number in measured) else measured
    for role in ("step", "seed"):
        whole = all(number is not None and number.is_integer() for number in result[role])
        result[role] = [int(number) for number in result[role]] if whole else None
    return result


_MANY, _LONG = 20, 30  # columns, and characters of each, that a message lists
_SPOKEN = {"lr": "rate", "weight_decay": "weight decay"}
_BLANK: Row = dict.fromkeys(("value", "loss", "step", "seed", *SPARSE, "row"))


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
    more = f" and {len(columns) - _MANY} more" if len(columns) > _MANY else ""
    return "the columns " + ", ".join(f"{column!r:.{_LONG}}" for column in columns[:_MANY]) + more
