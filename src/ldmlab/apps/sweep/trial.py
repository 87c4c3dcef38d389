"""One trial of a search: a run of its own, watched while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldmlab.apps.runs.folder import RunFolder
from ldmlab.core.history import read_history
from ldmlab.core.jobs import Job, run_job
from ldmlab.core.locks import locked

if TYPE_CHECKING:
    from optuna.trial import Trial

Runner = Callable[..., Job]


@dataclass(frozen=True)
class Watch:
    """Tells a study how a run is doing, and whether to give it up.

    Attributes:
        trial: The trial of the study.
        run: Its run.
        column: What to compare, a column of metrics.csv.
        sign: -1 where the column goes the other way than the study's metric.
    """

    trial: Trial
    run: RunFolder
    column: str
    sign: int

    def __call__(self) -> bool:
        """Whether the run lags behind."""
        told = self.trial.storage.get_trial(self.trial._trial_id).intermediate_values
        for step, value in history(self.run, self.column).items():
            if step not in told:
                self.trial.report(self.sign * value, step)
        return bool(self.trial.should_prune())


@dataclass(frozen=True)
class StageOne:
    """The autoencoder of a trial, trained once for all trials that share it.

    Attributes:
        run: Its run.
        command: The arguments that train it.
        done: File that says that it is trained.
    """

    run: RunFolder
    command: Sequence[str]
    done: Path

    def train(self, program: Sequence[str], log: Path) -> int:
        """Train it, unless another trial has or does; gives the exit code."""
        lock = self.run.path.with_name(f".{self.run.path.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock) as held:
            if self.done.is_file():
                return 0
            assert held is not None
            code = run_job(program, self.command, log, holds=[held]).code
            if code == 0:
                self.done.touch()
            return code


def history(run: RunFolder, column: str) -> dict[int, float]:
    """A column of a run's metrics.csv by step; empty where there is none yet."""
    rows = read_history(run.metrics)
    return {step: row[column] for step, row in rows.items() if column in row}


def value_of(run: RunFolder, metric: str) -> float | None:
    """A metric of a finished run: of its card, or the last of a column of metrics.csv.

    Returns:
        The value; None where the run has no such metric, or it is no finite number.
    """
    card: Mapping[str, Mapping[str, float]] = (
        run.read_card()["metrics"] if run.card.is_file() else {}
    )
    values = [float(card[metric]["value"])] if metric in card else []
    values = values or list(history(run, metric).values())
    return values[-1] if values and math.isfinite(values[-1]) else None


def metrics_of(run: RunFolder) -> list[str]:
    """Names of everything that `value_of` could find in a run."""
    names: list[str] = []
    if run.card.is_file():
        names += run.read_card()["metrics"]
    names += {name for row in read_history(run.metrics).values() for name in row}
    return sorted(names)


def last_words(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "no output"
