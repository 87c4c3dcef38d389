"""What both stages share: their own step counter, and randomness as a function of the step."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ldmlab.core.random import SampleNoise, derive_seed
from ldmlab.core.records import Batch
from ldmlab.training.lr_schedules import LRSchedule


class StepModule(L.LightningModule):
    """A LightningModule that counts its own steps and draws from (seed, step, row) alone.

    Lightning's counter counts each optimiser; this one counts batches, is saved with the weights
    and is where data and randomness continue after a resume.

    Attributes:
        trained: Names of what is trained, one for each optimiser.

    Args:
        seed: Seed of the run.
        max_steps: Number of steps after which training stops.
    """

    trained: tuple[str, ...]
    steps: Tensor

    def __init__(self, seed: int, max_steps: int) -> None:
        super().__init__()
        self.seed = seed
        self.max_steps = max_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return int(self.steps)

    def noise(self, batch: Batch) -> SampleNoise:
        """Random numbers of this step's rows, the same on any number of processes."""
        first = self.global_rank * len(batch)
        keys = range(first, first + len(batch))
        return SampleNoise(derive_seed("train", self.seed, self.step), keys)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
        """Seed what still draws from the global generators, such as dropout."""
        if self.step >= self.max_steps:
            self.trainer.should_stop = True
            return -1
        torch.manual_seed(derive_seed("layers", self.seed, self.step, self.global_rank))
        return None

    def advance(self) -> None:
        """Count a step that was taken, and stop after the last."""
        self.steps += 1
        if self.step >= self.max_steps:
            self.trainer.should_stop = True

    @staticmethod
    def scheduled(optimizer: Optimizer, schedule: LRSchedule) -> dict[str, Any]:
        """An optimiser with its learning rate following `schedule`, as Lightning wants it."""
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }


class StepCounter(L.Callback):
    """Counts a step before any other callback looks at the counter: the first of the list."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Count."""
        assert isinstance(pl_module, StepModule)
        pl_module.advance()
