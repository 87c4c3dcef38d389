"""Makes specimen image folders: with masks, classes or captions, and img2dataset shards."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np

from ldmlab.core.records import UNLABELLED
from ldmlab.data.specimens.imagenet import tar_of
from ldmlab.data.specimens.scenes import Scene, encode, scenes

_PER_SHARD = 8


def plain(out: Path, count: int, size: int, seed: int) -> None:
    """Images and nothing else."""
    for name, scene in _named(count, size, seed):
        _write(out / f"{name}.jpg", scene.encoded())


def grey_masks(out: Path, count: int, size: int, seed: int) -> None:
    """`images/a/0.jpg` with `masks/a/0.png`, grey, 255 unlabelled."""
    for name, scene in _named(count, size, seed):
        _write(out / "images" / f"{name}.jpg", scene.encoded())
        _write(out / "masks" / f"{name}.png", encode(scene.mask, "PNG"))


def palette_masks(out: Path, count: int, size: int, seed: int) -> None:
    """The same with masks that show their labels in colours of a palette."""
    colours = np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes()
    for name, scene in _named(count, size, seed):
        mask = scene.mask.copy()
        mask.putpalette(colours)
        _write(out / "images" / f"{name}.jpg", scene.encoded())
        _write(out / "masks" / f"{name}.png", encode(mask, "PNG"))


def ade20k(out: Path, count: int, size: int, seed: int) -> None:
    """`images/training`, `annotations/training`, ...: labels from 1, 0 unlabelled."""
    held = max(1, count // 10)
    shifted = [0 if value == UNLABELLED else value + 1 for value in range(256)]
    for k, scene in enumerate(scenes(count, size, seed, wide=True)):
        split, short = ("validation", "val") if k < held else ("training", "train")
        name = f"{split}/ADE_{short}_{k:08d}"
        _write(out / "images" / f"{name}.jpg", scene.encoded())
        _write(out / "annotations" / f"{name}.png", encode(scene.mask.point(shifted), "PNG"))


def classes(out: Path, count: int, size: int, seed: int) -> None:
    """A folder a class, png and jpg mixed."""
    for k, scene in enumerate(scenes(count, size, seed, wide=True)):
        form, extension = (("JPEG", "jpg"), ("PNG", "png"))[k // 2 % 2]
        _write(out / ("day", "night")[k % 2] / f"{k:04d}.{extension}", scene.encoded(form))


def text_files(out: Path, count: int, size: int, seed: int) -> None:
    """A text file beside each image."""
    for name, scene in _named(count, size, seed):
        _write(out / f"{name}.jpg", scene.encoded())
        _write(out / f"{name}.txt", f"{scene.caption}\n".encode())


def csv_table(out: Path, count: int, size: int, seed: int) -> None:
    """`captions.csv` with the columns file_name and text."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file_name", "text"))
    for name, scene in _named(count, size, seed):
        _write(out / f"{name}.jpg", scene.encoded())
        rows.writerow((f"{name}.jpg", f"{scene.caption}, with a comma"))
    (out / "captions.csv").write_text(table.getvalue(), encoding="utf-8")


def jsonl_table(out: Path, count: int, size: int, seed: int) -> None:
    """`metadata.jsonl` with file_name and text."""
    lines = []
    for name, scene in _named(count, size, seed):
        _write(out / f"{name}.jpg", scene.encoded())
        lines.append(json.dumps({"file_name": f"{name}.jpg", "text": scene.caption}) + "\n")
    (out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")


def shards(out: Path, count: int, size: int, seed: int) -> None:
    """`00000.tar` of key.jpg, key.txt, key.json, and `00000_stats.json` beside it."""
    pictures = scenes(count, size, seed, wide=True)
    for number, start in enumerate(range(0, count, _PER_SHARD)):
        files: dict[str, bytes] = {}
        for k, scene in enumerate(pictures[start : start + _PER_SHARD]):
            key = f"{number:05d}{k:04d}"
            metadata = {
                "url": f"https://example.org/{key}.jpg",
                "key": key,
                "status": "success",
                "caption": scene.caption,
                "width": scene.image.width,
                "height": scene.image.height,
            }
            files[f"{key}.jpg"] = scene.encoded()
            files[f"{key}.json"] = json.dumps(metadata).encode()
            files[f"{key}.txt"] = scene.caption.encode()
        (out / f"{number:05d}.tar").write_bytes(tar_of(files))
        stats = {"count": len(files) // 3, "successes": len(files) // 3, "failed_to_download": 0}
        (out / f"{number:05d}_stats.json").write_text(json.dumps(stats))


def _named(count: int, size: int, seed: int) -> list[tuple[str, Scene]]:
    """ImageDataset with names in two folders."""
    pictures = scenes(count, size, seed, wide=True)
    return [(f"{'ab'[k % 2]}/{k:04d}", scene) for k, scene in enumerate(pictures)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
