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
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform

Picture = str | Path | Image | Tensor
"""A file, a picture, or pixels [c, h, w] in [-1, 1] at the model's size."""


def pixels_of(
    key: str, images: Picture | Sequence[Picture], size: int, channels: int
) -> Float[Tensor, "b c h w"]:
    """Images in [-1, 1] as a batch: files and pictures cut to a square, tensors as they are.

    Args:
        key: What the caller calls them.
        images: One or more; or a batch of pixels.
        size: Side of the square in pixels.
        channels: Channels of the result.

    Raises:
        UserError: One cannot be read, or a tensor has other channels.
    """
    if isinstance(images, str | Path | Image):
        return read_image(key, images, size, channels)
    if not isinstance(images, Tensor):
        return torch.cat([pixels_of(key, image, size, channels) for image in images])
    if images.ndim not in (3, 4) or images.shape[-3] != channels:
        raise UserError(f"{key}= has the shape {list(images.shape)}: make it [b, {channels}, h, w]")
    return images.reshape(-1, *images.shape[-3:])


def read_image(
    key: str, picture: str | Path | Image, size: int, channels: int
) -> Float[Tensor, "1 c s s"]:
    """The middle square of a picture, in [-1, 1].

    Args:
        key: What the user calls it.
        picture: A file, or a picture that was opened.
        size: Side of the result in pixels.
        channels: 3, or 1 for their mean.

    Raises:
        UserError: It cannot be read.
    """
    try:
        seen = Transform(size)(Sample(_bytes(picture)))
    except OSError as error:
        raise UserError(f"{key}={picture} cannot be read ({error.strerror})") from error
    except BrokenFileError as error:
        raise UserError(f"{key}={picture} {error}") from error
    pixels = to_unit_range(seen.image[None])
    return pixels if channels == 3 else pixels.mean(1, keepdim=True)


def _bytes(picture: str | Path | Image) -> bytes:
    if not isinstance(picture, Image):
        return Path(picture).read_bytes()
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()
