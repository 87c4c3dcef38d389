"""Small things to train in a moment, by any trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ldmlab.core.random import Noise
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import InMemory
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.optimizers.lr_schedules import constant
from ldmlab.training.step_module import StepModule, StepTerms

IMAGES = torch.tensor([[1.0, 2.0], [3.0, -4.0], [0.5, 0.0], [-2.5, 6.0]])[:, :, None, None]
"""Four images of two channels and one pixel; their mean is (0.5, 1)."""


class Line(StepModule):
    """Descends w . x, whose gradient is the mean of the rows, whatever w is."""

    trained = ("network",)
    monitor = "val/loss"
    mode = "min"

    def __init__(self, max_steps: int = 1, parts: int = 1, seed: int = 0) -> None:
        super().__init__(seed, max_steps, parts)
        self.network: nn.Module = nn.Linear(2, 1, bias=False)
        nn.init.constant_(next(self.network.parameters()), 1.0)

    @property
    def weight(self) -> Tensor:
        """w."""
        return next(self.network.parameters()).detach().flatten()

    def optimizer(self) -> Optimizer:
        """A plain descent with a rate of 1."""
        return SGD(self.network.parameters(), lr=1.0)

    def configure_optimizers(self) -> Any:
        """The optimiser, at a constant rate."""
        return self.scheduled(self.optimizer(), constant(1))

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        """The mean over the rows."""
        assert batch.image is not None
        loss = self.network(batch.image.flatten(1)).mean()
        return StepTerms(loss, {"loss": loss})


def data(images: Tensor = IMAGES) -> InMemory:
    """Images in memory, all of them in each step."""
    return InMemory([Batch(index=torch.arange(len(images)), image=images)])


def fit(
    module: StepModule,
    callbacks: Sequence[L.Callback] = (),
    images: Tensor = IMAGES,
    batch_size: int | None = None,
    **options: Any,
) -> L.Trainer:
    """Train a module on images until its last step."""
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **{
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        | options,
    )
    data_module = BatchDataModule(data(images), data(images), batch_size or len(images))
    trainer.fit(module, data_module)
    return trainer
