"""Data sets around data sets: subsets, and those kept in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch.utils.data import Dataset

from ldmlab.core.errors import UserError
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import Batch, LatentMoments
from ldmlab.data.sampling.block_shuffle import Blocks
from ldmlab.data.sampling.step_batches import blocks_of


@runtime_checkable
class BatchDataset(Protocol):
    """A data set that delivers many samples at once, as one record."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch:
        """The samples at these positions."""
        ...

    def captions(self, indices: list[int]) -> tuple[str, ...] | None:
        """The texts at these positions without their images; None where there are none."""
        ...


def in_order(dataset: BatchDataset, batch_size: int) -> Iterator[Batch]:
    """Every sample once, in order."""
    for start in range(0, len(dataset), batch_size):
        yield dataset.__getitems__(list(range(start, min(start + batch_size, len(dataset)))))


class Subset(Dataset[Batch]):
    """The first samples of a data set.

    Args:
        dataset: Where they come from.
        limit: How many to keep; all, where there are fewer.
    """

    def __init__(self, dataset: BatchDataset, limit: int) -> None:
        positive_int(limit=limit)
        self.dataset = dataset
        self.limit = min(limit, len(dataset))

    @property
    def blocks(self) -> Blocks | None:
        """Which samples lie together on disk; None where that does not matter."""
        blocks = blocks_of(self.dataset)
        return None if blocks is None else blocks.first(self.limit)

    def __len__(self) -> int:
        return self.limit

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.dataset.__getitems__(indices)

    def captions(self, indices: list[int]) -> tuple[str, ...] | None:
        """The texts at these positions."""
        return self.dataset.captions(indices)


class StridedSubset(Dataset[Batch]):
    """Some samples of a data set, spread over it: of all classes, in whatever order they lie.

    Args:
        dataset: Where they come from.
        count: How many to keep; all, where there are fewer.
    """

    def __init__(self, dataset: BatchDataset, count: int) -> None:
        positive_int(count=count)
        self.dataset = dataset
        count = min(count, len(dataset))
        self._positions = [k * len(dataset) // count for k in range(count)]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.dataset.__getitems__([self._positions[i] for i in indices])

    def captions(self, indices: list[int]) -> tuple[str, ...] | None:
        """The texts at these positions."""
        return self.dataset.captions([self._positions[i] for i in indices])


class InMemory(Dataset[Batch]):
    """Every sample of a stream of batches, held in memory.

    Args:
        batches: The samples in order of their positions.
        dataset: Where they come from, for what else it knows.
    """

    def __init__(self, batches: Sequence[Batch], dataset: BatchDataset | None = None) -> None:
        self.batch = Batch.concatenate(batches)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, index: int) -> Batch:
        return self.batch[[index]]

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.batch[indices]

    def captions(self, indices: list[int]) -> tuple[str, ...] | None:
        """The texts at these positions."""
        texts = self.batch.caption
        return None if texts is None else tuple(texts[i] for i in indices)


@dataclass(frozen=True)
class Cycle:
    """A data set's samples over and over, numbered anew; read when a part of them is taken.

    Attributes:
        dataset: The data set.
        count: How many.
    """

    dataset: BatchDataset
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice | list[int]) -> Batch:
        indices = range(self.count)[part] if isinstance(part, slice) else part
        given = self.dataset.__getitems__([i % len(self.dataset) for i in indices])
        return replace(given, index=torch.tensor(indices))


def check_memory(sample: Batch, count: int, what: str) -> None:
    """Refuse to hold more than the machine has to give.

    Args:
        sample: One of the things to hold.
        count: How many there are.
        what: Their name, for the message.

    Raises:
        UserError: They need more than what is free; joining the parts takes twice their size.
    """
    needed, free = 2 * sample.nbytes * count, free_memory()
    if needed > free:
        raise UserError(
            f"data.in_memory=true needs {needed / 2**30:.1f} GiB for {count:,} {what}, and "
            f"{free / 2**30:.1f} GiB are free: set data.in_memory=false"
        )


def free_memory() -> float:
    """Bytes that this process could still take; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    return math.inf if kilobytes is None else int(kilobytes) * 1024.0


def with_latents(batch: Batch, encode: Callable[[torch.Tensor], LatentMoments]) -> Batch:
    """The batch with its images replaced by their latents."""
    if batch.image is None:
        raise ValueError("a batch without images cannot be encoded")
    return replace(batch, image=None, latent=encode(batch.image))
