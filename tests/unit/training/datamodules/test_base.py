"""How data is divided among processes, and where a resumed run goes on."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from tests.unit.training.toys import Line

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


def training(rank: int = 0, world: int = 1, step: int = 0, seed: int = 3) -> list[list[int]]:
    """Six batches of one process, of a global batch of 4 among 10 samples."""
    module, learner = BatchDataModule(Numbers(10), Numbers(1), 4, seed), Line(100)
    learner.steps += step
    module.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        lightning_module=learner,
    )
    return [batch.index.tolist() for batch in islice(module.train_dataloader(), 6)]


def test_datamodule_divides_the_global_batch_among_processes() -> None:
    whole = training()
    parts = [training(rank, 2) for rank in (0, 1)]
    assert [len(batch) for batch in whole] == [4] * 6
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_datamodule_goes_on_where_the_module_stands() -> None:
    assert training(step=2)[:4] == training()[2:]
    assert training(seed=4) != training()
