"""Saving checkpoints by step and at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from ldmlab.training.metrics_file import MetricsFile
from ldmlab.training.steps import StepModule


def save(trainer: L.Trainer, path: Path) -> None:
    """Save a checkpoint, with all that its steps have logged in metrics.csv before it."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.log_step(trainer)
    trainer.save_checkpoint(path)


class Checkpointing(L.Callback):
    """Keeps `last.ckpt` up to date, and a numbered copy where asked for.

    Args:
        folder: Where checkpoints go.
        every: Steps between updates of `last.ckpt`.
        keep_every: Steps between numbered checkpoints; None for none.
        facts: Plain values to store beside the weights.
    """

    def __init__(
        self, folder: Path, every: int, keep_every: int | None = None, facts: Any = None
    ) -> None:
        self.folder = folder
        self.every = every
        self.keep_every = keep_every
        self.facts = facts

    @property
    def last(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / "last.ckpt"

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the facts."""
        checkpoint["facts"] = self.facts

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Save when it is time."""
        assert isinstance(pl_module, StepModule)
        step = pl_module.step
        if step % self.every == 0 or step >= pl_module.max_steps:
            save(trainer, self.last)
        if self.keep_every is not None and step % self.keep_every == 0:
            save(trainer, self.folder / f"step-{step:06d}.ckpt")
