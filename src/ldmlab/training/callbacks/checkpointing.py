"""Saving checkpoints by step and at the end."""

from __future__ import annotations

import math
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import lightning as L

from ldmlab.core.checkpoint_file import not_finite
from ldmlab.core.errors import UserError
from ldmlab.core.files import told_if_unwritable
from ldmlab.training.loggers.metrics_file import MetricsFile
from ldmlab.training.sharding import local
from ldmlab.training.step_module import StepModule


def save(trainer: L.Trainer, path: Path) -> None:
    """Save a checkpoint, with all that its steps have logged in metrics.csv before it.

    Raises:
        UserError: The weights are not finite: the checkpoint before them stays.
    """
    _check_finite(trainer)
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.log_step(trainer)
    trainer.save_checkpoint(path)


def _check_finite(trainer: L.Trainer) -> None:
    """Let no NaN take the place of weights; all processes see the same, whatever part they hold."""
    module = trainer.lightning_module
    assert isinstance(module, StepModule)
    weights = {name: local(value) for name, value in module.state_dict().items()}
    spoilt = not_finite(weights)
    if trainer.strategy.reduce_boolean_decision(spoilt is not None, all=False):
        raise UserError(
            f"after step {module.step} the weights hold numbers that are not finite "
            f"({spoilt or 'on another process'}): they are not saved, a checkpoint from before "
            "stays; lower the stage's lr, raise warmup_steps, or take precision=32-true"
        )


class Checkpointing(L.Callback):
    """Keeps `last.ckpt` up to date, and a numbered copy or the best one where asked for.

    Args:
        folder: Where checkpoints go.
        every: Steps between updates of `last.ckpt`.
        keep_every: Steps between numbered checkpoints; None for none.
        best_of: Steps between validations, of which the best one's checkpoint stays as
            `best.ckpt`; None for none.
        metadata: Plain values to store beside the weights.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        keep_every: int | None = None,
        best_of: int | None = None,
        metadata: Any = None,
    ) -> None:
        self.folder = folder
        self.every = every
        self.keep_every = keep_every
        self.best_of = best_of
        self.metadata = metadata
        self._best: float | None = None
        self._saved = False

    @property
    def last(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """The best validation so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best validation so far."""
        self._best = state_dict["best"]

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the metadata."""
        checkpoint["metadata"] = self.metadata

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Save when it is time."""
        assert isinstance(pl_module, StepModule)
        step = pl_module.step
        validates = self.best_of is not None and step % self.best_of == 0
        if step % self.every == 0 or step >= pl_module.max_steps or validates:
            save(trainer, self.last)
            self._saved = True
        if self.keep_every is not None and step % self.keep_every == 0:
            save(trainer, self.folder / f"step-{step:06d}.ckpt")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let `best.ckpt` be the checkpoint that was saved before the best validation."""
        assert isinstance(pl_module, StepModule)
        if self.best_of is None:
            return
        value = float(trainer.callback_metrics[pl_module.monitor])
        if not math.isfinite(value) or value == self._best:
            return
        better = max if pl_module.mode == "max" else min
        self._best = value if self._best is None else better(value, self._best)
        if self._best == value and trainer.is_global_zero:
            # A resumed run may validate first, before it saves anything.
            validated = self.last if self._saved else Path(str(trainer.ckpt_path))
            _link(validated, self.folder / "best.ckpt")


def _link(path: Path, name: Path) -> None:
    """Give a file another name: `path` is replaced as a whole when it changes."""
    fresh = name.with_name(f".{name.name}.{uuid.uuid4().hex[:8]}.part")
    with told_if_unwritable(name):
        try:
            os.link(path, fresh)
        except OSError:  # not every file system has a file with two names
            shutil.copyfile(path, fresh)
        fresh.replace(name)
