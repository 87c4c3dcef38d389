"""Samples a second that one core reads from a latent cache, in batches at random positions.

The files are warm, in the page cache; processor time of the best round. Latents are 3 x 64 x 64,
those of 256-pixel images at a factor of 4. `widened` is `.float()` of what was read, which training
does on its device.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ldmlab.core.records import Batch, LatentMoments
from ldmlab.data.latents.dataset import LatentCache
from ldmlab.data.latents.format import Manifest
from ldmlab.data.latents.variants import Variants
from ldmlab.data.latents.writer import LatentWriter
from ldmlab.data.sampling.step_batches import StepBatches

SHAPE = (3, 64, 64)
QUICK = {"samples": 256, "rounds": 1, "drawn": 256}


def write_cache(folder: Path, samples: int, spread: bool) -> LatentCache:
    """A cache of noise, with deviations or without."""
    folder.mkdir()
    manifest = Manifest("0" * 16, {}, {}, "0" * 16, samples, SHAPE, Variants(), "fp16", 1024)
    writer = LatentWriter(folder, manifest)
    for shard in writer.missing():
        for_shard = []
        for visits in writer.batches(shard, 256):
            mean = torch.randn(len(visits), *SHAPE)
            std = mean.abs() if spread else torch.zeros_like(mean)
            index = torch.tensor(visits)
            for_shard.append(Batch(index, label=index % 1000, latent=LatentMoments(mean, std)))
        writer.write(shard, for_shard)
    return LatentCache(folder)


def as_read(batch: Batch) -> object:
    return batch


def widened(batch: Batch) -> object:
    assert batch.latent is not None
    return batch.latent.mean.float(), batch.latent.std.float()


def widened_mean(batch: Batch) -> object:
    assert batch.latent is not None
    return batch.latent.mean.float()


def rate(batches: Callable[[], Iterator[Batch]], use: Callable[[Batch], object]) -> float:
    """Samples a second of processor time."""
    started, count = time.process_time(), 0
    for batch in batches():
        use(batch)
        count += len(batch)
    return count / (time.process_time() - started)


def at_random(cache: LatentCache, size: int, count: int) -> Callable[[], Iterator[Batch]]:
    """Batches at positions that are drawn beforehand."""
    rng = np.random.default_rng(0)
    order = [rng.integers(0, len(cache), size).tolist() for _ in range(count // size)]
    return lambda: (cache.__getitems__(indices) for indices in order)


def in_order_of_training(
    cache: LatentCache, size: int, count: int
) -> Callable[[], Iterator[Batch]]:
    """What a training without loading processes does, the order included."""

    def batches() -> Iterator[Batch]:
        stream = iter(StepBatches(len(cache), size, 0))
        for _ in range(count // size):
            yield cache.__getitems__(next(stream))

    return batches


def item_by_item(cache: LatentCache, size: int, count: int) -> Callable[[], Iterator[Batch]]:
    """A DataLoader that collates single samples."""

    class Items(torch.utils.data.Dataset[Batch]):
        def __len__(self) -> int:
            return len(cache)

        def __getitem__(self, index: int) -> Batch:
            return cache[index]

    def batches() -> Iterator[Batch]:
        loader = DataLoader(Items(), size, shuffle=True, collate_fn=Batch.concatenate)
        for batch, _ in zip(loader, range(count // size), strict=False):
            yield batch

    return batches


def run(samples: int = 8192, rounds: int = 7, drawn: int = 4096) -> dict[str, Any]:
    """Samples a second by what the cache holds and how it is read, for each size of batch."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        mean = write_cache(Path(folder) / "mean", samples, spread=False)
        both = write_cache(Path(folder) / "both", samples, spread=True)
        contestants = [
            ("mean only (VQ)", "as read, fp16", mean, at_random, as_read),
            ("mean only (VQ)", "widened", mean, at_random, widened_mean),
            ("mean and deviation (KL)", "as read, fp16", both, at_random, as_read),
            ("mean and deviation (KL)", "widened", both, at_random, widened),
            ("mean only (VQ)", "as read, order of training", mean, in_order_of_training, as_read),
            ("mean only (VQ)", "as read, item by item", mean, item_by_item, as_read),
        ]
        figures: dict[str, Any] = {}
        for held, how, cache, order, use in contestants:
            best = figures[f"{held}, {how}"] = {}
            for size in (16, 64, 256):
                batches = order(cache, size, drawn)
                rate(batches, use)  # the first pass reads the files
                best[f"batches of {size}"] = max(rate(batches, use) for _ in range(rounds))
        return figures
