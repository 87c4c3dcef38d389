"""Images a second on one core, against torchvision's ImageFolder, in one interleaved run.

The contestants take turns. Times are those of the processor, and a rate comes from each batch's
best one over the rounds, which a neighbour on a shared machine spoils least; the ratio is the
median of the rounds' ratios.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

from ldmlab.core.tensors import to_bytes
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.transform import Transform
from ldmlab.data.sampling.step_batches import SeededIndex
from ldmlab.data.sources.image_folder import ImageFolder

BATCH = 16
SIZE = 256
QUICK = {"images": 16, "rounds": 1}


def write_photographs(folder: Path, count: int, side: int) -> float:
    """Crops of scikit-learn's two photographs as JPEGs of quality 90; their mean size in bytes."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    total = 0
    for k in range(count):
        photograph = photographs[k % 2]
        cut = int(rng.integers(200, 427))
        left, top = rng.integers(0, 640 - cut + 1), rng.integers(0, 427 - cut + 1)
        image = photograph.crop((left, top, left + cut, top + cut)).resize((side, side))
        # Enlarging smooths, and smooth images decode too fast: grain gives back the detail.
        pixels = np.asarray(image) + rng.normal(0, 4, (side, side, 3))
        file = folder / "a" / f"{k:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)
        total += file.stat().st_size
    return total / count


def with_image_folder(root: Path) -> Callable[[], Iterator[torch.Tensor]]:
    """Pillow, as torchvision's documentation does it."""
    view = transforms.Compose([
        transforms.Resize(SIZE, InterpolationMode.BICUBIC),
        transforms.CenterCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip
    loader = DataLoader(datasets.ImageFolder(str(root), view), BATCH, drop_last=True)
    return lambda: (images for images, _ in loader)


def with_pictures(root: Path) -> Callable[[], Iterator[torch.Tensor]]:
    """This package."""
    layout = ImageFolder("train", root, validation_share=1e-9)
    data = ImageDataset(layout, Transform(SIZE, flip=True))

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(data), BATCH):
            rows = range(start, min(start + BATCH, len(data)))
            image = data.__getitems__([SeededIndex(i, i) for i in rows]).image
            assert image is not None
            yield image

    return batches


def seconds(batches: Callable[[], Iterator[torch.Tensor]]) -> list[float]:
    """Processor time of each batch, per image; nothing here waits for anything else."""
    times = []
    started = time.process_time()
    for images in batches():
        now = time.process_time()
        times.append((now - started) / len(images))
        started = time.process_time()
    return times


def psnr(root: Path) -> list[float]:
    """Agreement in decibels with Pillow's bicubic resize of the whole decoded image."""
    data = ImageDataset(ImageFolder("train", root, validation_share=1e-9), Transform(SIZE))
    values = []
    for i in range(len(data)):
        sample, _ = data.look(i)
        exact = Image.open(io.BytesIO(sample.image)).convert("RGB")
        exact = exact.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        image = data[i].image
        assert image is not None
        ours = to_bytes(image[0]).permute(1, 2, 0).double()
        error = (ours - torch.from_numpy(np.array(exact)).double()).square().mean()
        values.append(float(10 * torch.log10(255**2 / error.clamp(min=1e-9))))
    return values


def run(images: int = 49, rounds: int = 15) -> dict[str, Any]:
    """Images a second of both, their ratio and the agreement in dB, by the side of the JPEGs."""
    torch.set_num_threads(1)
    return {f"{side}x{side}": _compared(side, images, rounds) for side in (512, 1024)}


def _compared(side: int, images: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_photographs(root, images, side)
        contestants = with_pictures(root), with_image_folder(root)
        times: list[list[list[float]]] = [[], []]
        for _ in range(rounds):
            for contestant, spent in zip(contestants, times, strict=True):
                spent.append(seconds(contestant))
        ours, theirs = (
            statistics.mean(min(batch) for batch in zip(*each, strict=True)) for each in times
        )
        ratio = statistics.median(sum(b) / sum(a) for a, b in zip(*times, strict=True))
        return {"kib": size / 1024, "here": 1 / ours, "image_folder": 1 / theirs,
                "ratio": ratio, "psnr": min(psnr(root))}  # fmt: skip
