"""Captions that lie beside images: a text file each, or one table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path, PurePosixPath

from ldmlab.core.errors import UserError
from ldmlab.data.decoding import decode_text

_NAMES = ("file_name", "filename", "image", "path", "file")
_TEXTS = ("text", "caption")


class FolderCaptions:
    """The caption of each image of a folder; empty where there is none.

    Args:
        root: The data set's folder, where a table lies.
        folder: The folder of the images.
        source: `txt` for a text file beside each image, or the name of a csv file or a jsonl file
            in the root. A table has a column `file_name` (or filename, image, path, file) with
            paths relative to the images' folder or to the root, and a column `text` or `caption`.

    Raises:
        UserError: The table cannot be read, or lacks a column.
    """

    def __init__(self, root: Path, folder: Path, source: str) -> None:
        self._folder = folder
        self._table: dict[str, str] | None = None
        if source != "txt":
            prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
            table = _read_table(root / source)
            self._table = {name.removeprefix(prefix): text for name, text in table.items()}

    def __call__(self, name: str) -> str:
        """The caption of the image at a relative path."""
        if self._table is not None:
            return self._table.get(name, "")
        try:
            data = (self._folder / PurePosixPath(name)).with_suffix(".txt").read_bytes()
        except OSError:
            return ""
        return decode_text(data)


def _read_table(path: Path) -> dict[str, str]:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise UserError(f"data.captions={path.name} must be txt, or a .csv or .jsonl file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"data.captions: {path} cannot be read ({error.strerror})") from error
    text = data.decode("utf-8-sig", "replace")
    if path.suffix.lower() == ".csv":
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise UserError(f"data.captions: {path} is no csv table: {error}") from error
    else:
        rows = [_row(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line]
    if not rows:
        raise UserError(f"data.captions: {path} holds no rows")
    name, caption = (_column(path, rows[0], known) for known in (_NAMES, _TEXTS))
    return {str(row.get(name)): decode_text(str(row.get(caption) or "").encode()) for row in rows}


def _row(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"data.captions: line {number} of {path} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"data.captions: line {number} of {path} must be a JSON object")
    return row


def _column(path: Path, row: dict[str, str], known: tuple[str, ...]) -> str:
    for column in known:
        if column in row:
            return column
    columns = ", ".join(map(str, row))
    raise UserError(
        f"data.captions: {path} has the columns {columns}, and none of {', '.join(known)}"
    )
