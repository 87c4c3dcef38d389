"""The LightningDataModule of every data set."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.data.sampling.loader import batch_loader
from ldmlab.data.sampling.step_batches import StepBatches, blocks_of
from ldmlab.training.step_module import StepModule


class BatchDataModule(L.LightningDataModule):
    """Feeds batches whose order follows the module's own step counter.

    Args:
        train: Training data.
        validation: Validation data, read in order.
        batch_size: Size of the global batch.
        seed: Seed of the order.
        num_workers: Processes that load data, on each rank.
    """

    def __init__(
        self,
        train: BatchDataset,
        validation: BatchDataset,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the module's step on, without end."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        start = module.step if isinstance(module, StepModule) else 0
        batches = StepBatches(
            len(self.train),
            self.batch_size,
            self.seed,
            start,
            self.trainer.global_rank,
            self.trainer.world_size,
            blocks_of(self.train),
        )
        return self._loader(self.train, batches)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sample, divided among the processes: as many batches for each."""
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        samples = len(self.validation)
        # Fewer than processes are looked at by each, which leaves every mean as it is.
        mine = range(rank, samples, world) if samples >= world else range(samples)
        # Sharded networks wait for each other at every batch, so none may be left over.
        at_once = max(1, self.batch_size // world)
        count = min(max(1, samples // world), -(-samples // (world * at_once)))
        cuts = [len(mine) * k // count for k in range(count + 1)]
        batches = [list(mine[a:b]) for a, b in pairwise(cuts)]
        return self._loader(self.validation, batches)

    def _loader(self, dataset: BatchDataset, batches: Any) -> DataLoader[Any]:
        assert self.trainer is not None
        pin = self.trainer.strategy.root_device.type == "cuda"
        return batch_loader(dataset, batches, self.num_workers, pin, self.seed)
