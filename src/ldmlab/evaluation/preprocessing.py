"""What images go through before a network: the published ways to resize and to cut.

The same network behind another way gives another distance; the ways differ by whole grey levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ldmlab.core.ranges import one_of, positive_int

Resize = Literal["clean", "tf1", "torch", "torch_antialias", "dino_pil", "dino_torch"]


def resize(
    images: UInt8[Tensor, "b 3 h w"], size: int, how: Resize
) -> Float[Tensor, "b 3 size size"]:
    """Resize to a square, levels in [0, 255].

    Args:
        images: Bytes.
        size: Side of the result, in pixels.
        how: `clean`, antialiased bicubic of floats (clean-fid); `tf1`, bilinear without the half
            pixel (TensorFlow 1; torch-fidelity, ADM); `torch`, bilinear (pytorch-fid);
            `torch_antialias`, antialiased bilinear (torchmetrics); `dino_pil`, antialiased bicubic
            of bytes; `dino_torch`, antialiased bicubic of floats, which may overshoot.
    """
    positive_int(size=size)
    one_of(Resize)(how=how)
    if how == "clean":
        return _each(images, lambda image: _clean(image, size))
    if how == "dino_pil":
        return _each(images, lambda image: _pillow_bytes(image, size))
    floats = images.float()
    if how == "tf1":
        return _tensorflow_1(floats, size)
    if how == "dino_torch":
        return interpolate(floats, (size, size), mode="bicubic", antialias=True)
    return interpolate(floats, (size, size), mode="bilinear", antialias=how == "torch_antialias")


def center_crop(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The centre square as ADM cuts it (Dhariwal and Nichol 2021, `center_crop_arr`).

    Halved with a box filter while the shorter side is at least twice the size, then bicubic.

    Args:
        image: Bytes.
        size: Side of the result, in pixels.
    """
    positive_int(size=size)
    picture = Image.fromarray(image)
    while min(picture.size) >= 2 * size:
        half = (picture.width // 2, picture.height // 2)
        picture = picture.resize(half, Image.Resampling.BOX)
    scale = size / min(picture.size)
    scaled = (round(picture.width * scale), round(picture.height * scale))
    cut = np.asarray(picture.resize(scaled, Image.Resampling.BICUBIC))
    top, left = (cut.shape[0] - size) // 2, (cut.shape[1] - size) // 2
    return np.ascontiguousarray(cut[top : top + size, left : left + size])


def _each(
    images: UInt8[Tensor, "b 3 h w"], change: Callable[[Any], Any]
) -> Float[Tensor, "b 3 size size"]:
    arrays = [change(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).to(images.device)


def _clean(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float[np.ndarray, "size size 3"]:
    channels = [Image.fromarray(image[:, :, k].astype(np.float32)) for k in range(3)]
    resized = [np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in channels]
    return np.stack(resized, axis=2).clip(0, 255)


def _pillow_bytes(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float[np.ndarray, "size size 3"]:
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized).astype(np.float32)


def _tensorflow_1(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c size size"]:
    """Pixel k of the result is read at k times the ratio of the sides, not at its centre."""
    for axis in (2, 3):
        side = images.shape[axis]
        place = torch.arange(size, device=images.device, dtype=torch.float32) * (side / size)
        low = place.floor().long()
        high = (low + 1).clamp(max=side - 1)
        share = (place - low).reshape([-1 if k == axis else 1 for k in range(4)])
        below, above = images.index_select(axis, low), images.index_select(axis, high)
        images = below + (above - below) * share
    return images
