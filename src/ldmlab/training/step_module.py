"""Base of both LightningModules: an own step counter, and randomness as a function of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ldmlab.core.errors import UserError
from ldmlab.core.random import Noise, SampleNoise, derive_seed
from ldmlab.core.records import Batch
from ldmlab.training.optimizers.factories import lay_out_state
from ldmlab.training.optimizers.lr_schedules import LRSchedule


@dataclass(frozen=True)
class StepTerms:
    """What one batch, or part of one, asks of the weights.

    Attributes:
        total: What is descended.
        logs: Numbers to log, the loss to show among them as `loss`.
        num_active_optimizers: How many of the optimisers take a step, the first ones.
    """

    total: Tensor
    logs: dict[str, Tensor]
    num_active_optimizers: int = 1


class StepModule(L.LightningModule, ABC):
    """A LightningModule that counts its own steps and draws from (seed, step, row) alone.

    The counter is saved with the weights and is where data and randomness continue after a resume.
    A batch is one step, whatever the number of optimisers and of parts that it is taken in. Any
    `lightning.Trainer` trains the module, to its `max_steps` or the trainer's own, if fewer.

    Attributes:
        trained: Names of what is trained, one for each optimiser.
        monitor: Name of the metric that validations are compared by.
        mode: Whether its smallest (`min`) or its largest value (`max`) is the best.

    Args:
        seed: Seed of the run.
        max_steps: Number of steps after which training stops.
        accumulate_grad_batches: Parts that a batch is divided into, one after the other, to save
            memory.
    """

    trained: tuple[str, ...]
    monitor: str
    mode: Literal["min", "max"]
    steps: Tensor

    def __init__(self, seed: int, max_steps: int, accumulate_grad_batches: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seed = seed
        self.max_steps = max_steps
        self.accumulate_grad_batches = accumulate_grad_batches
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._validated: dict[str, Tensor] = {}

    @abstractmethod
    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        """The loss of some rows of a batch, row k drawing from row k of `noise`."""

    @property
    def sharded(self) -> list[nn.Module]:
        """Networks that processes may divide among them: all that is trained, or nothing."""
        return []

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return int(self.steps)

    def on_train_start(self) -> None:
        """Make what a checkpoint has brought fit for training."""
        for optimizer in self.trainer.optimizers:
            lay_out_state(optimizer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
        """Seed what still draws from the global generators, such as dropout."""
        if self.step >= self.max_steps:
            self.trainer.should_stop = True
            return -1
        torch.manual_seed(derive_seed("layers", self.seed, self.step, self.global_rank))
        return None

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of every optimiser; returns what was logged, a mean over all processes.

        Raises:
            UserError: The batch cannot be divided into the parts.
        """
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        found = []
        size, rest = divmod(len(batch), self.accumulate_grad_batches)
        if rest:
            raise UserError(
                f"{len(batch)} images a process do not divide into accumulate_grad_batches="
                f"{self.accumulate_grad_batches} parts; choose a divisor"
            )
        for first in range(0, len(batch), size):
            with self._synchronised(last=first + size == len(batch)):
                terms = self.terms(batch[first : first + size], self._noise(batch, first, size))
                self.manual_backward(terms.total / self.accumulate_grad_batches)
            found.append(terms)
        self._descend(found[-1].num_active_optimizers)
        values = torch.stack([torch.stack(list(t.logs.values())).detach() for t in found]).mean(0)
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        logs = dict(zip(found[-1].logs, values, strict=True))
        self.log_dict({f"train/{name}": value for name, value in logs.items()})
        # Not in a hook: callbacks, which look at the counter, are called before the module's own.
        self.advance()
        return logs

    def log_mean(self, name: str, value: Tensor, count: int) -> None:
        """Log the mean over all samples of a validation, however processes and batches divide them.

        Args:
            name: Name of the metric.
            value: Its mean over some of the samples.
            count: How many these are.
        """
        part = torch.stack([value.detach() * count, torch.full_like(value, count)])
        self._validated[name] = self._validated.get(name, torch.zeros_like(part)) + part

    def on_validation_epoch_end(self) -> None:
        """Put the parts of all processes together.

        Not by Lightning's `sync_dist`: it averages the counts too, as whole numbers.
        """
        for name, part in self._validated.items():
            total, count = self.trainer.strategy.reduce(part, reduce_op="sum")
            self.log(name, total / count)
        self._validated = {}

    def advance(self) -> None:
        """Count a step that was taken, and stop after the last."""
        self.steps += 1
        if self.step >= self.max_steps:
            self.trainer.should_stop = True

    @staticmethod
    def scheduled(optimizer: Optimizer, schedule: LRSchedule) -> OptimizerLRSchedulerConfig:
        """An optimiser with its learning rate following `schedule`, as Lightning wants it."""
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    @property
    def _optimizers(self) -> list[Any]:
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def _noise(self, batch: Batch, first: int, size: int) -> SampleNoise:
        """Random numbers of some rows, the same on any number of processes and of parts."""
        start = self.global_rank * len(batch) + first
        return SampleNoise(
            derive_seed("train", self.seed, self.step),
            range(start, start + size),
            whole=self.trainer.world_size * len(batch),
        )

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Processes average their gradients with the last part's; sharded ones with each."""
        model = self.trainer.model
        if last or not isinstance(model, DistributedDataParallel):
            return nullcontext()
        return model.no_sync()

    def _descend(self, num_active_optimizers: int) -> None:
        schedules = self.lr_schedulers()
        assert schedules is not None
        schedules = schedules if isinstance(schedules, list) else [schedules]
        # A discriminator that has not started keeps its schedule for when it does.
        for optimizer, schedule in zip(
            self._optimizers[:num_active_optimizers], schedules[:num_active_optimizers], strict=True
        ):
            if optimizer is not self._optimizers[0]:
                # Lightning adds up the steps of all: a trainer's max_steps would count them twice.
                optimizer._on_before_step = optimizer._on_after_step = _uncounted
            optimizer.step()
            schedule.step()


def _uncounted() -> None:
    """In the place of Lightning's counter of optimiser steps."""
