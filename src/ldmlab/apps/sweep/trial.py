"""One trial of a search: a run of its own, watched while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ldmlab.apps.runs.folder import RunFolder
from ldmlab.core.history import read_history
from ldmlab.core.jobs import run_job
from ldmlab.core.locks import locked

if TYPE_CHECKING:
    from optuna.trial import Trial


def watcher(trial: Trial, run: RunFolder, column: str, sign: int) -> Callable[[], bool]:
    """What tells a study how a run is doing, and whether the run lags behind.

    Args:
        trial: The trial of the study.
        run: Its run.
        column: What to compare, a column of metrics.csv.
        sign: -1 where the column goes the other way than the study's metric.
    """

    def lags() -> bool:
        told = trial.storage.get_trial(trial._trial_id).intermediate_values
        for step, value in history(run, column).items():
            if step not in told:
                trial.report(sign * value, step)
        return bool(trial.should_prune())

    return lags


def train_once(command: Sequence[str], run: Path, done: Path, log: Path) -> int:
    """Train the autoencoder that trials share, unless another trial has or does.

    Args:
        command: What trains it.
        run: Its run.
        done: File that says that it is trained.
        log: File that the output is added to.

    Returns:
        The exit code.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    with locked(run.with_name(f".{run.name}.lock")) as held:
        if done.is_file():
            return 0
        assert held is not None
        code = run_job(command, (), log, holds=[held]).code
        if code == 0:
            done.touch()
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
