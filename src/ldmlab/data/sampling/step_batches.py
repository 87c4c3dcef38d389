"""The order in which training sees its data: a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Sampler

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.data.sampling.block_shuffle import Blocks, WindowedEpoch


class SeededIndex(int):
    """A position in a data set with the seed of what is random about looking at it this time.

    Data sets without anything random take it for the position that it is.

    Args:
        index: The position.
        seed: Of crop and mirror, another one at each visit.
    """

    _seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        """An int like `index`, with its seed."""
        visit = super().__new__(cls, index)
        visit._seed = seed
        return visit

    @property
    def seed(self) -> int:
        """Of crop and mirror."""
        return self._seed

    def __getnewargs__(self) -> tuple[int, ...]:  # type: ignore[override]
        return int(self), self._seed


class _Planned(SeededIndex):
    """A visit of training, whose seed is worked out where something random is looked at.

    Args:
        index: The position.
        run: Seed of the run.
        epoch: Number of the epoch.
    """

    _run: int
    _epoch: int

    def __new__(cls, index: int, run: int, epoch: int) -> _Planned:
        """An int like `index`, with where its seed comes from."""
        visit = int.__new__(cls, index)
        visit._run, visit._epoch = run, epoch
        return visit

    def __getnewargs__(self) -> tuple[int, ...]:  # type: ignore[override]
        return int(self), self._run, self._epoch

    @property
    def seed(self) -> int:
        """Of crop and mirror."""
        return derive_seed("visit", self._run, self._epoch, int(self))


@runtime_checkable
class _Epoch(Protocol):
    """One epoch's order: which sample comes at which place."""

    def __getitem__(self, place: int, /) -> int | np.int64: ...


class StepBatches(Sampler[list[int]]):
    """An endless stream of batches in which step k depends on (seed, k) only.

    Each epoch is a permutation of its own and a batch may span two of them, so no sample is left
    out. The global batch of a step is the same on any number of processes; each takes its rows.

    Args:
        num_samples: Size of the data set.
        batch_size: Size of the global batch.
        seed: Seed of the permutations.
        start: Number of steps already taken.
        rank: Number of this process.
        world_size: Number of processes; divides the batch size.
        blocks: Which samples lie together on disk, for data that is read in windows; by default
            any sample may follow any other.

    Raises:
        UserError: The data set is empty, or the batch cannot be divided.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        blocks: Blocks | None = None,
    ) -> None:
        if num_samples < 1:
            raise UserError("the training data holds no samples; look at data.root")
        if batch_size % world_size:
            raise UserError(
                f"a global batch_size of {batch_size} cannot be divided among {world_size} "
                "processes; choose a multiple"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rows = range(batch_size)[
            rank * batch_size // world_size : (rank + 1) * batch_size // world_size
        ]
        self.blocks = blocks

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of visits, from step `start` on, without end."""
        step = self.start
        epoch = step * self.batch_size // self.num_samples
        order = self._order(epoch)
        while True:
            batch: list[int] = []
            for row in self.rows:
                number, place = divmod(step * self.batch_size + row, self.num_samples)
                if number != epoch:
                    epoch, order = number, self._order(number)
                batch.append(_Planned(int(order[place]), self.seed, epoch))
            yield batch
            step += 1

    def _order(self, epoch: int) -> _Epoch:
        seed = derive_seed("epoch", self.seed, epoch)
        if self.blocks is not None:
            return WindowedEpoch(self.blocks, seed)
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(self.num_samples, generator=generator).numpy()


def blocks_of(dataset: object) -> Blocks | None:
    """Which samples of a data set lie together on disk; None where that does not matter."""
    blocks = getattr(dataset, "blocks", None)
    return blocks if isinstance(blocks, Blocks) else None
