"""The LightningDataModule of every data set."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from ldmlab.core.records import Batch
from ldmlab.data.batches import StepBatches
from ldmlab.data.memory import BatchDataset
from ldmlab.training.steps import StepModule


def _as_it_is(batch: Batch) -> Batch:
    return batch


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
        )
        return self._loader(self.train, batches)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sample once, in order, divided among the processes."""
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        mine = list(range(rank, len(self.validation), world))
        size = max(1, self.batch_size // world)
        return self._loader(
            self.validation, [mine[i : i + size] for i in range(0, len(mine), size)]
        )

    def _loader(self, dataset: BatchDataset, batches: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            persistent_workers=self.num_workers > 0,
        )
