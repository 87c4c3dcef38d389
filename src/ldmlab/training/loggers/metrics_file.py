"""The history of a run as one CSV file that survives interruption and resume."""

from __future__ import annotations

import csv
import io
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from ldmlab.core.files import atomic_write, told_if_unwritable
from ldmlab.core.history import read_history


class MetricsFile(Logger):
    """Appends to `metrics.csv`: a row a step, a column a metric, sorted by name.

    A row is written at once, so that whoever watches the run sees it and a kill loses nothing;
    what a step logs later is added to its row. Only a new column writes the whole file anew.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        self._step = -1
        self._row: dict[str, float] = {}
        self._place = 0  # of the last row, in bytes

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one version."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file."""
        return self.path

    @rank_zero_only
    def begin(self, step: int) -> None:
        """Drop what an earlier part of the run wrote beyond its first `step` steps.

        Raises:
            UserError: The file is damaged.
        """
        kept = {k: row for k, row in read_history(self.path).items() if k < step}
        self._step = max(kept, default=-1)  # a validation may still be owed to it
        self._row = kept.get(self._step, {})
        self._write(kept)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """The run's config.yaml holds them already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add values to the row of a step, the last one or a later one.

        Raises:
            UserError: The file cannot be written.
        """
        values = {k: float(v) for k, v in metrics.items() if k != "epoch"}
        step = step or 0
        if not values:
            return
        if step != self._step:
            self._step, self._row = step, {}
            self._place = self.path.stat().st_size if self.path.is_file() else 0
        self._row |= values
        if self.path.is_file() and self._row.keys() <= set(self._columns):
            self._append()
        else:
            self._write(read_history(self.path) | {self._step: self._row})

    def log_step(self, trainer: L.Trainer) -> None:
        """Write what the present step has logged, which Lightning hands on after the step."""
        connector = trainer._logger_connector
        if connector.should_update_logs:
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            self.log_metrics(connector.metrics["log"], step)

    def _append(self) -> None:
        with told_if_unwritable(self.path):
            try:
                with self.path.open("r+b") as file:
                    file.seek(self._place)
                    file.write(_line([self._step, *self._cells(self._row)]))
                    file.truncate()
            except OSError:
                with suppress(OSError):  # no half row stays
                    os.truncate(self.path, self._place)
                raise

    def _write(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        self._columns = sorted({name for row in rows.values() for name in row})
        lines = [_line(["step", *self._columns])]
        lines += [_line([step, *self._cells(row)]) for step, row in sorted(rows.items())]
        self._place = sum(map(len, lines[:-1]))
        with atomic_write(self.path) as file:
            file.writelines(lines)

    def _cells(self, row: Mapping[str, float]) -> list[str]:
        return [repr(row[name]) if name in row else "" for name in self._columns]


def _line(cells: Iterable[Any]) -> bytes:
    """A line of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
