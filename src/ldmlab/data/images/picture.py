"""Pictures that a user names, as pixels: files, opened pictures and tensors."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.image_size import ImageSize
from ldmlab.core.records import DataSpec
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform

Picture = str | Path | Image | Tensor
"""A file, a picture, or pixels [c, h, w] in [-1, 1] at the model's size."""


def pixels_of(
    key: str,
    images: Picture | Sequence[Picture],
    size: ImageSize,
    channels: int,
    spec: DataSpec | None = None,
) -> Float[Tensor, "b c h w"]:
    """Images in [-1, 1] as a batch: files and pictures cut to the frame, tensors as they are.

    Args:
        key: What the caller calls them.
        images: One or more; or a batch of pixels.
        size: Side of the frame in pixels, or height and width.
        channels: Channels of the result.
        spec: Of the data whose values files hold; None for pictures of 8 bits.

    Raises:
        UserError: One cannot be read, or a tensor has other channels.
    """
    if isinstance(images, str | Path | Image):
        return read_image(key, images, size, channels, spec)
    if not isinstance(images, Tensor):
        return torch.cat([pixels_of(key, image, size, channels, spec) for image in images])
    if images.ndim not in (3, 4) or images.shape[-3] != channels:
        raise UserError(f"{key}= has the shape {list(images.shape)}: make it [b, {channels}, h, w]")
    return images.reshape(-1, *images.shape[-3:])


def read_image(
    key: str,
    picture: str | Path | Image,
    size: ImageSize,
    channels: int,
    spec: DataSpec | None = None,
) -> Float[Tensor, "1 c h w"]:
    """The middle of a picture, in [-1, 1].

    Args:
        key: What the user calls it.
        picture: A file, or a picture that was opened.
        size: Side of the result in pixels, or height and width.
        channels: 3, or 1 for their mean; of a `spec` any.
        spec: Of the data whose values the file holds; None for a picture of 8 bits.

    Raises:
        UserError: It cannot be read.
    """
    try:
        pixels = None if spec is None or spec.plain else Pixels.of(spec)
        seen = Transform(size, pixels=pixels)(Sample(_bytes(picture)))
    except OSError as error:
        raise UserError(f"{key}={picture} cannot be read ({error.strerror})") from error
    except BrokenFileError as error:
        raise UserError(f"{key}={picture} {error}") from error
    if seen.image.is_floating_point():
        return seen.image[None]
    unit = to_unit_range(seen.image[None])
    return unit if channels == 3 else unit.mean(1, keepdim=True)


def _bytes(picture: str | Path | Image) -> bytes:
    if not isinstance(picture, Image):
        return Path(picture).read_bytes()
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()
