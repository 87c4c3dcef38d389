"""Writes images to files with the channels, depth and values that their data has."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldmlab.core.files import atomic_write
from ldmlab.core.image_grid import save_picture, to_pil
from ldmlab.core.pixel_values import PixelValues
from ldmlab.core.records import DataSpec

PICTURE_CHANNELS = (1, 3)
"""Numbers of channels that a picture is made of: grey, and red, green and blue."""


def picture_of(image: Float[Tensor, "c h w"], values: PixelValues) -> Image.Image | None:
    """An image in [-1, 1] as Pillow has it; None where Pillow has nothing of its kind.

    Args:
        image: The image; 8 bits of grey become equal colours.
        values: Bits and range of its values.
    """
    if values == PixelValues() and len(image) in PICTURE_CHANNELS:
        return to_pil(image)
    stored = values.from_unit(image)
    if stored.dtype == np.uint8 and len(stored) in PICTURE_CHANNELS:
        return Image.fromarray(stored[0] if len(stored) == 1 else stored.transpose(1, 2, 0).copy())
    if stored.dtype == np.uint16 and len(stored) == 1:
        return Image.fromarray(stored[0])
    return None


def picture_suffix(spec: DataSpec) -> str:
    """The ending of the files that `write_picture` makes of a model's images."""
    grey16 = spec.bits == 16 and spec.image_channels == 1
    colours = spec.bits == 8 and spec.image_channels in PICTURE_CHANNELS
    return ".png" if grey16 or colours else ".tiff"


def write_picture(
    image: Float[Tensor, "c h w"],
    spec: DataSpec,
    stem: Path,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write an image in [-1, 1] whole or not at all, in the values of the model's data.

    8 bits of one or three channels and 16 bits of one become a PNG; everything else becomes a TIFF
    with a plane for each channel, of whole numbers or of 32-bit floats.

    Args:
        image: The image.
        spec: What the model knows of its data.
        stem: The file's path without its ending.
        texts: What a PNG is to say of itself, a text chunk each; a TIFF has none.

    Returns:
        The file.
    """
    path = stem.with_name(stem.name + picture_suffix(spec))
    picture = picture_of(image, spec.values)
    if picture is not None:
        save_picture(picture, path, texts)
        return path
    import tifffile

    stored, data = spec.values.from_unit(image), io.BytesIO()
    planes = "separate" if len(stored) > 1 else None
    stored = stored if len(stored) > 1 else stored[0]
    tifffile.imwrite(data, stored, photometric="minisblack", planarconfig=planes)
    with atomic_write(path) as file:
        file.write(data.getvalue())
    return path
