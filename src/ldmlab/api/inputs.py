"""Inputs of the Python interface: conditions, and images as tensors, arrays, PIL or paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Integer
from PIL.Image import Image
from torch import Tensor

from ldmlab.apps.commands.init_image import read_image
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, DataSpec
from ldmlab.models.drawing import Start

Picture = str | Path | Image | Tensor
"""A file, a picture, or pixels [c, h, w] in [-1, 1] at the model's size."""

_WORDS = {"caption": "prompt=", "label": "label=", "mask": "mask=", "image": "image="}


def conditions_of(
    conditioner: Conditioner,
    prompt: str | Sequence[str] | None,
    label: int | Sequence[int] | None,
    mask: Integer[Tensor, "*b h w"] | None,
    start: Start | None,
    count: int,
) -> Batch:
    """A batch of the one condition that was given, repeated where it is for all.

    Args:
        conditioner: The model's.
        prompt: Text, for every sample or for each.
        label: Number of a class, likewise.
        mask: Label map, likewise.
        start: Picture, and the part of it to be painted.
        count: Number of samples of a single condition.

    Raises:
        UserError: The model takes none of this kind, or needs one.
    """
    needed = conditioner.input_key
    given = {"caption": prompt, "label": label, "mask": mask, "image": start}
    for key, value in given.items():
        if value is not None and key != needed:
            takes = "no condition" if needed is None else _WORDS[needed]
            raise UserError(f"{_WORDS[key]} is not for this model, which takes {takes}")
    if needed is None:
        return Batch(index=torch.arange(count))
    rows = _rows(prompt, label, mask, start)
    if rows is None:
        raise UserError(f"this model draws what it is told: give {_WORDS[needed]}")
    rows = rows[[0] * count] if len(rows) == 1 else rows
    return replace(rows, index=torch.arange(len(rows)))


def start_of(image: Picture | None, inpaint: Picture | None, spec: DataSpec) -> Start | None:
    """The picture to start from; None without one.

    Args:
        image: The picture.
        inpaint: White where it is to be painted anew, above 0 in a tensor; None for all of it.
        spec: What the model knows of its data.

    Raises:
        UserError: One cannot be read, or `inpaint` comes without `image`.
    """
    if image is None:
        if inpaint is not None:
            raise UserError("inpaint= names what to paint anew of a picture: give image= too")
        return None
    pixels = pixels_of("image", image, spec.image_size, spec.image_channels)
    if inpaint is None:
        return Start(pixels, None)
    white = pixels_of("inpaint", inpaint, spec.image_size, 1)
    return Start(pixels, (white > 0).to(pixels.dtype))


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


def _rows(
    prompt: str | Sequence[str] | None,
    label: int | Sequence[int] | None,
    mask: Tensor | None,
    start: Start | None,
) -> Batch | None:
    if prompt is not None:
        captions = (prompt,) if isinstance(prompt, str) else tuple(prompt)
        return Batch(index=torch.arange(len(captions)), caption=captions)
    if label is not None:
        labels = torch.tensor([label] if isinstance(label, int) else list(label))
        return Batch(index=torch.arange(len(labels)), label=labels)
    if mask is not None:
        maps = mask.long().reshape(-1, *mask.shape[-2:])
        return Batch(index=torch.arange(len(maps)), mask=maps)
    if start is not None:
        hole = None if start.unknown is None else start.unknown[:, 0].long()
        return Batch(index=torch.arange(1), image=start.image, mask=hole)
    return None
