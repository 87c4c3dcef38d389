"""Tables that users write: csv with a header, or a JSON object a line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import as_utf8, decoded
from ldmlab.data.sources.listing import shown

TABLES = (".csv", ".jsonl")
"""Endings of their names."""

_DELIMITERS = ",;\t"


def read_rows(key: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a table by column; a line in another encoding than UTF-8 spoils no other.

    Args:
        key: What the user calls the file.
        path: The file, its name with an ending of `TABLES`.

    Raises:
        UserError: It cannot be read, or holds no rows.
    """
    try:
        data = as_utf8(path.read_bytes())
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror})") from error
    lines = [decoded(line) for line in data.split(b"\n")]
    if path.suffix.lower() == ".csv":
        rows = _csv_rows(key, path, lines)
    else:
        rows = [_row(key, path, k, line) for k, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{key}: {path} holds no rows")
    return rows


def column_of(key: str, path: Path, rows: list[dict[str, Any]], known: tuple[str, ...]) -> str:
    """Name of the first known column that the rows have.

    Args:
        key: What the user calls the file.
        path: The file.
        rows: Its rows.
        known: Names that the column may have.

    Raises:
        UserError: They have none of these columns.
    """
    there = [column for column in known if any(column in row for row in rows)]
    if there:  # one that is empty in every row hides none that is not
        return next((c for c in there if any(row.get(c) for row in rows)), there[0])
    columns = ", ".join(shown(str(column)) for column in rows[0])
    raise UserError(f"{key}: {path} has the columns {columns}, and none of {', '.join(known)}")


def _csv_rows(key: str, path: Path, lines: list[str]) -> list[dict[str, Any]]:
    delimiter = max(_DELIMITERS, key=lines[0].count)
    try:
        text = io.StringIO("\n".join(lines), newline="")
        first, *rest = list(csv.reader(text, delimiter=delimiter)) or [[]]
    except csv.Error as error:
        raise UserError(f"{key}: {path} is no csv table: {error}") from error
    columns = [column.strip().lower() for column in first]
    rows = []
    for number, row in enumerate(rest, 2):
        if any(field.strip() for field in row[len(columns) :]):
            raise UserError(
                f"{key}: row {number} of {path} has {len(row)} fields, and the header "
                f"{len(columns)}: put quotes around a text with '{delimiter}' in it"
            )
        rows += [dict(zip(columns, row, strict=False))] if row else []
    return rows


def _row(key: str, path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{key}: line {number} of {path} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{key}: line {number} of {path} must be a JSON object")
    return row
