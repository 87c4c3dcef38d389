"""Samples a second that one core reads from img2dataset shards, and the memory of doing so.

Reading without decoding, shuffled: here and, where it is installed, webdataset, in one
interleaved run. Rates are those of the best round, in processor time; the memory is the growth
of the process from the first epoch's end to the last's.
Without `uv run --with webdataset` only the reader here is measured.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ldmlab.data.sampling.step_batches import StepBatches
from ldmlab.data.shards.dataset import Shards

BATCH = 64
PER_SHARD = 2_000
SHUFFLE = 8_000
KIB = 20
QUICK = {"samples": 2_000, "shards": 1}


def write_shards(root: Path, count: int) -> None:
    """Shards as img2dataset writes them, of noise in the place of JPEGs."""
    image = np.random.default_rng(0).bytes(KIB * 1024)
    for number in range(count):
        with tarfile.open(root / f"{number:05d}.tar", "w") as tar:
            for k in range(PER_SHARD):
                key = f"{number:05d}{k:04d}"
                metadata = {"caption": f"image {k}", "url": f"https://e.org/{key}", "key": key,
                         "status": "success", "width": 384, "height": 256, "similarity": 0.31,
                         "NSFW": "UNLIKELY", "sha256": "0" * 64}  # fmt: skip
                text = f"image {k}".encode()
                parts = {"jpg": image, "json": json.dumps(metadata).encode(), "txt": text}
                for kind, data in parts.items():
                    entry = tarfile.TarInfo(f"{key}.{kind}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))


def with_shards(layout: Shards) -> Callable[[], Iterator[tuple[bytes, object]]]:
    """This package: image and caption in the order of training."""
    batches = iter(StepBatches(len(layout), BATCH, 0, blocks=layout.blocks))

    def epoch() -> Iterator[tuple[bytes, object]]:
        for _ in range(len(layout) // BATCH):
            for index in next(batches):
                sample = layout.read(index)
                yield sample.image, sample.caption

    return epoch


def with_webdataset(root: Path) -> Callable[[], Iterator[tuple[bytes, object]]]:
    """The usual streaming library, with a buffer as large as the window here."""
    import webdataset

    urls = [str(path) for path in sorted(root.glob("*.tar"))]
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(SHUFFLE)

    def epoch() -> Iterator[tuple[bytes, object]]:
        for sample in data:
            yield sample["jpg"], sample["txt"]

    return epoch


def rate(epoch: Callable[[], Iterator[tuple[bytes, object]]]) -> float:
    """Samples a second of processor time: on a shared machine the clock measures neighbours."""
    started = time.process_time()
    count = sum(len(image) == KIB * 1024 for image, _ in epoch())
    return count / (time.process_time() - started)


def resident() -> float:
    """Memory of this process that is no file's, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024


def run(samples: int = 100_000, shards: int = 10) -> dict[str, Any]:
    """Samples a second and growth in MiB of each reader, and the median ratio where both run."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "shards")
        root.mkdir()
        write_shards(root, shards)
        started = time.process_time()
        layout = Shards("train", root, window=SHUFFLE, cache=Path(folder, "cache"))
        figures: dict[str, Any] = {"index_seconds": time.process_time() - started}
        readers = {"here": with_shards(layout)}
        with contextlib.suppress(ImportError):
            readers["webdataset"] = with_webdataset(root)
        rates: dict[str, list[float]] = {name: [] for name in readers}
        grown = dict.fromkeys(readers, 0.0)
        for turn in range(max(2, -(-samples // len(layout)))):
            for name, epoch in readers.items():
                before = resident()
                rates[name].append(rate(epoch))
                grown[name] += (resident() - before) if turn else 0.0
        for name, found in rates.items():
            figures[name] = {"samples_per_second": max(found), "growth_mib": grown[name]}
        if len(rates) > 1:
            ratios = (a / b for a, b in zip(*rates.values(), strict=True))
            figures["ratio"] = statistics.median(ratios)
        return figures
