"""How validation data is divided among processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ldmlab.core.records import Batch
from ldmlab.training.datamodules.base import BatchDataModule


class Numbers:
    """Samples that are their own positions."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: list[int]) -> Batch:
        return Batch(torch.tensor(indices))

    def captions(self, indices: list[int]) -> None:
        return None


def validation(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """The batches of one process."""
    module = BatchDataModule(Numbers(1), Numbers(count), batch_size)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world, strategy=strategy)
    return [batch.index.tolist() for batch in module.val_dataloader()]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [2, 6, 64])
@pytest.mark.parametrize("count", [3, 4, 5, 7, 12, 100])
def test_datamodule_gives_each_process_as_many_batches(
    count: int, batch_size: int, world: int
) -> None:
    parts = [validation(count, batch_size, rank, world) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert all(batch for part in parts for batch in part)
    seen = [index for part in parts for batch in part for index in batch]
    assert sorted(seen) == list(range(count))
    if world == 1:
        assert max(map(len, parts[0])) <= batch_size


def test_datamodule_with_fewer_samples_than_processes_shows_them_to_each() -> None:
    assert all(validation(2, 6, rank, 3) == [[0, 1]] for rank in range(3))
