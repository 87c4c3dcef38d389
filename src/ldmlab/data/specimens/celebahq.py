"""Makes specimen data sets in the formats of CelebA-HQ."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ldmlab.data.specimens.scenes import scenes


def npy(out: Path, count: int, size: int, seed: int) -> None:
    """`imgHQ00000.npy`, uint8 of shape (1, 3, h, w), with the two official lists."""
    names = []
    for number, scene in enumerate(scenes(count, size, seed)):
        array = np.asarray(scene.image).transpose(2, 0, 1)[None]
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        names.append(f"imgHQ{number:05d}.npy")
        (out / names[-1]).write_bytes(file.getvalue())
    held = max(1, count // 6)
    (out / "celebahqtrain.txt").write_text("".join(f"{name}\n" for name in names[held:]))
    (out / "celebahqvalidation.txt").write_text("".join(f"{name}\n" for name in names[:held]))


def jpg(out: Path, count: int, size: int, seed: int) -> None:
    """`00000.jpg` and so on."""
    for number, scene in enumerate(scenes(count, size, seed)):
        (out / f"{number:05d}.jpg").write_bytes(scene.encoded())


def mask_hq(out: Path, count: int, size: int, seed: int) -> None:
    """CelebAMask-HQ: `CelebA-HQ-img/0.jpg`, and masks of parts beside them."""
    images = out / "CelebA-HQ-img"
    masks = out / "CelebAMask-HQ-mask-anno" / "0"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for number, scene in enumerate(scenes(count, size, seed)):
        (images / f"{number}.jpg").write_bytes(scene.encoded())
        part = scene.mask.point([255 * (value == 1) for value in range(256)])
        part.save(masks / f"{number:05d}_skin.png")
