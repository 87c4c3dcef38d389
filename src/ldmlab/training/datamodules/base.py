"""The LightningDataModule of every data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.data.sampling.step_batches import StepBatches, blocks_of
from ldmlab.training.step_module import StepModule


class _Answer(Dataset[Any]):
    """A data set whose mistakes of the user cross the border of a loading process in one piece.

    A DataLoader would raise them anew with a traceback for their message.

    Args:
        dataset: Where the samples come from.
    """

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: list[int]) -> Batch | UserError:
        """The samples, or what is wrong with them."""
        try:
            return self.dataset.__getitems__(indices)
        except UserError as error:
            return error


class _Loader(DataLoader[Any]):
    """Raises the mistakes that loading processes answer with."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for answer in super().__iter__():
            if isinstance(answer, UserError):
                raise answer
            yield answer


def _as_it_is(answer: Any) -> Any:
    return answer


def batch_loader(
    dataset: BatchDataset,
    batches: Iterable[list[int]],
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int = 0,
) -> DataLoader[Any]:
    """Batches of a data set, loaded by other processes where asked for.

    Args:
        dataset: Where the samples come from.
        batches: The positions of each batch.
        num_workers: Processes that load.
        pin_memory: Whether batches come in page-locked memory.
        seed: Seed of what the processes draw.
    """
    return _Loader(
        _Answer(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        # Starting workers draws a number: not from the generator that training goes on with.
        generator=torch.Generator().manual_seed(seed),
    )


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
