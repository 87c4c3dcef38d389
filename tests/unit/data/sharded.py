"""Small shards, written by hand, and what is read of them."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from ldmlab.core.records import Batch
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.sampling.step_batches import StepBatches
from ldmlab.data.specimens.scenes import scenes

PER_SHARD = (5, 1, 7, 4)
JPEG = scenes(1, 16)[0].encoded()
FACTS = {"width": 640, "height": 480, "similarity": 0.3, "NSFW": "UNLIKELY", "caption": "of json"}


def write_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def sample(key: str, image: bytes = JPEG, text: str | None = None, **metadata: object):
    files = {f"{key}.jpg": image, f"{key}.json": json.dumps(FACTS | metadata).encode()}
    return files if text is None else files | {f"{key}.txt": text.encode()}


def both(shards, *arguments, **options) -> list[str]:
    """The captions of both splits."""
    found = []
    for split in ("train", "validation"):
        data = shards(split, *arguments, **options)
        found += [data.caption(i) for i in range(len(data))]
    return sorted(found)


EVERY = sorted(f"{number}-{k}" for number, count in enumerate(PER_SHARD) for k in range(count))


class Ids(torch.utils.data.Dataset[tuple[str, ...]]):
    """The captions of a data set, which name its samples."""

    def __init__(self, data: ImageDataset) -> None:
        self.data = data

    def __getitems__(self, indices: list[int]) -> tuple[str, ...]:
        batch: Batch = self.data.__getitems__(indices)
        assert batch.image is not None and len(batch.image) == len(indices)
        return batch.caption or ()


def stream(
    data: ImageDataset, steps: int, workers: int = 0, start: int = 0, rank: int = 0, world=1
):
    """The samples of some steps, as training loads them."""
    batches = StepBatches(len(data), 4, 5, start, rank, world, data.blocks)
    loader = DataLoader(Ids(data), batch_sampler=batches, num_workers=workers, collate_fn=tuple)
    return list(islice(loader, steps))
