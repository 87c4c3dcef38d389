"""Batches of a data set, loaded by other processes where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import BatchDataset


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
