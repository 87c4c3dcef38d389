"""The history of a run as one CSV file that survives interruption and resume."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from ldmlab.core.files import write_text


class MetricsFile(Logger):
    """Writes `metrics.csv`: a row a step, a column a metric, sorted by name.

    Args:
        path: The file; rows of an earlier part of the run are kept.
        flush_every: Rows between two writes of the file.
    """

    def __init__(self, path: Path, flush_every: int = 20) -> None:
        super().__init__()
        self.path = path
        self.flush_every = flush_every
        self._rows: dict[int, dict[str, float]] = {}
        self._unsaved = 0
        if path.is_file():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    step = int(row.pop("step"))
                    self._rows[step] = {k: float(v) for k, v in row.items() if v}

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
    def experiment(self) -> dict[int, dict[str, float]]:
        """The rows so far."""
        return self._rows

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Drop rows beyond a resumed step: they will be written again."""
        self._rows = {k: row for k, row in self._rows.items() if k <= step}

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """The run's config.yaml holds them already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of a step."""
        values = {k: float(v) for k, v in metrics.items() if k != "epoch"}
        if values:
            self._rows.setdefault(step or 0, {}).update(values)
            self._unsaved += 1
        # Whoever watches the run, such as a search that prunes, judges it by its validation.
        if self._unsaved >= self.flush_every or any(name.startswith("val/") for name in values):
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        self._unsaved = 0
        columns = sorted({name for row in self._rows.values() for name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *columns], lineterminator="\n")
        writer.writeheader()
        for step, row in sorted(self._rows.items()):
            writer.writerow({"step": step, **{k: repr(v) for k, v in row.items()}})
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()
