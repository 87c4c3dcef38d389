"""Images for specimen data sets: landscapes of the procedural world, encoded as files."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldmlab.core.records import UNLABELLED
from ldmlab.core.tensors import to_bytes
from ldmlab.data.vistas.dataset import Vistas


@dataclass(frozen=True)
class Scene:
    """One picture with all that is known of it.

    Attributes:
        image: Upright RGB pixels.
        label: Class.
        mask: Label of each pixel as a grey image, 255 unlabelled.
        caption: One sentence.
    """

    image: Image.Image
    label: int
    mask: Image.Image
    caption: str

    def encoded(self, form: str = "JPEG") -> bytes:
        """The picture as a file of a format of Pillow's."""
        return encode(self.image, form)


def encode(image: Image.Image, form: str) -> bytes:
    """An image as a file of a format of Pillow's."""
    file = io.BytesIO()
    image.save(file, form, **({"quality": 92} if form == "JPEG" else {}))
    return file.getvalue()


def scenes(count: int, size: int, seed: int = 0, wide: bool = False) -> list[Scene]:
    """Different landscapes.

    Args:
        count: How many.
        size: Width in pixels, a multiple of 8.
        seed: Seed of the world.
        wide: Cut a quarter of the height off.
    """
    batch = Vistas("train", count, size, seed).__getitems__(list(range(count)))
    assert batch.image is not None and batch.mask is not None
    assert batch.label is not None and batch.caption is not None
    top = size // 8 if wide else 0
    box = (0, top, size, size - top)
    pixels = to_bytes(batch.image).permute(0, 2, 3, 1).numpy()
    masks = batch.mask.numpy().astype(np.uint8)
    masks[:, :, :2] = UNLABELLED  # real masks have pixels that nobody labelled
    return [
        Scene(
            Image.fromarray(pixels[i]).crop(box),
            int(batch.label[i]),
            Image.fromarray(masks[i]).crop(box),
            batch.caption[i],
        )
        for i in range(count)
    ]
