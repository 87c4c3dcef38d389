"""Reads the logged values of a run from its metrics.csv, also while it is being written."""

from __future__ import annotations

import csv
from pathlib import Path

from ldmlab.core.errors import UserError


def read_history(path: Path) -> dict[int, dict[str, float]]:
    """The values of each step by name, those that a step lacks left out.

    A last line without an end is still being written, or was when its writer was killed, and does
    not count.

    Args:
        path: A metrics.csv; none means no steps.

    Raises:
        UserError: The file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        names, *rows = csv.reader(line for line in lines if line.endswith("\n")) if lines else [[]]
        return {int(step): _values(names[1:], row) for step, *row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged ({error}): move it away, and the same command goes on"
        ) from error


def _values(names: list[str], row: list[str]) -> dict[str, float]:
    return {name: float(text) for name, text in zip(names, row, strict=True) if text}
