"""Runs a validation on resume that an interruption had prevented."""

from __future__ import annotations

import lightning as L

from ldmlab.training.step_module import StepModule


class ResumeValidation(L.Callback):
    """Validates first where a resumed step is one that ends with a validation.

    Checkpoints are saved before it, so that a run which is killed while it validates loses
    nothing else; it validates again, and its history has no gap.

    Args:
        every: Steps between validations.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, as Lightning does between two steps."""
        assert isinstance(pl_module, StepModule)
        if pl_module.step == 0 or pl_module.step % self.every:
            return
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
