"""Shards as a stream: its order, its resumption, its processes, its splits."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.unit.data.sharded import EVERY, both, stream

from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.transform import Transform
from ldmlab.data.sampling.datasets import Subset
from ldmlab.data.sampling.step_batches import StepBatches
from ldmlab.data.shards.dataset import Shards, held_out_rows


def test_limited_shards_shuffle_the_remaining_samples(root: Path, shards) -> None:
    data = Subset(ImageDataset(shards("train", root), Transform(16)), 9)
    assert data.blocks is not None and data.blocks.sizes.sum() == 9
    order = islice(StepBatches(9, 3, 0, blocks=data.blocks), 3)
    assert sorted(i for batch in order for i in batch) == list(range(9))


def test_laion_epoch_shows_each_sample_once_with_any_number_of_workers(root: Path, shards) -> None:
    data = ImageDataset(shards("train", root), Transform(16))
    assert len(data) == 16
    seen = stream(data, 8)
    assert stream(data, 8, workers=2) == seen
    first, second = [sum(seen[k : k + 4], ()) for k in (0, 4)]
    assert sorted(first) == sorted(second) and len(set(first)) == 16 and first != second


@pytest.mark.parametrize("workers", [0, 2])
def test_laion_resumes_within_an_epoch(root: Path, shards, workers) -> None:
    data = ImageDataset(shards("train", root), Transform(16))
    again = ImageDataset(shards("train", root), Transform(16))
    assert stream(again, 4, workers, start=3) == stream(data, 7)[3:]


def _rank(rank: int, root: Path, cache: Path, out: Path) -> None:
    address = f"file://{out}.store"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    data = ImageDataset(Shards("train", root, cache=cache, window=6), Transform(16))
    gathered: list = [None, None]
    dist.all_gather_object(gathered, stream(data, 8, rank=rank, world=2))
    if rank == 0:
        out.write_text(json.dumps(gathered))
    dist.destroy_process_group()


def test_laion_two_processes_see_the_samples_of_one(root: Path, shards, tmp_path: Path) -> None:
    # Both start on an empty index.
    arguments = (root, tmp_path / "fresh", tmp_path / "out.json")
    torch.multiprocessing.start_processes(_rank, arguments, 2, start_method="fork")
    ranks = json.loads((tmp_path / "out.json").read_text())
    assert {len(batch) for steps in ranks for batch in steps} == {2}
    alone = stream(ImageDataset(shards("train", root), Transform(16)), 8)
    assert [tuple(a + b) for a, b in zip(*ranks, strict=True)] == alone


def test_laion_splits_are_disjoint_and_complete(root: Path, shards) -> None:
    assert both(shards, root) == EVERY
    assert both(shards, root, validation_share=0.5) == EVERY
    assert len(shards("validation", root, validation_share=1e-9)) == 1
    assert len(shards("validation", root, validation_share=0.5)) == 8
    assert len(shards("train", root, validation_share=0.999)) == 1


def test_laion_validation_samples_lie_in_few_shards() -> None:
    names, counts = [f"/data/{k:05d}.tar" for k in range(100)], np.full(100, 1000)
    held = held_out_rows(names, counts, 0.0213)
    assert held.sum() == 2130 and (held > 0).sum() == 3
    moved = held_out_rows([f"s3://x/{k:05d}.tar" for k in range(100)], counts, 0.0213)
    assert (moved == held).all()
