"""The loggers of a run: metrics.csv always, Weights & Biases where asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from ldmlab.training.loggers.metrics_file import MetricsFile


def build_loggers(
    folder: Path,
    stage: str,
    wandb: Mapping[str, Any] | None,
    config: Mapping[str, Any],
) -> list[Logger]:
    """The loggers of a stage's run.

    Args:
        folder: The run folder; its name identifies the run.
        stage: Name of the stage.
        wandb: Arguments of `WandbLogger` and `mode`; None for none.
        config: What to show as the run's configuration.

    Raises:
        UserError: Weights & Biases cannot be reached, and is asked for online.
    """
    loggers: list[Logger] = [MetricsFile(folder / "metrics.csv")]
    if wandb is not None:
        from ldmlab.training.loggers.wandb_run import open_wandb  # slow, and not for everyone

        loggers.append(open_wandb(folder, stage, wandb, config))
    return loggers


def close_loggers(loggers: Sequence[Logger], card: Mapping[str, Any] | None = None) -> None:
    """End the runs of loggers that keep one open, the metric card as their last word.

    Args:
        loggers: The loggers of one stage.
        card: The metric card; None for a stage without one.
    """
    for logger in loggers:
        finish = getattr(getattr(logger, "experiment", None), "finish", None)
        if finish is None:
            continue
        if card is not None:
            values = {name: metric["value"] for name, metric in card["metrics"].items()}
            logger.log_metrics({f"card/{name}": value for name, value in values.items()})
        finish()
