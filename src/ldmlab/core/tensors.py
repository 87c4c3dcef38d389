"""Small tensor helpers shared by every layer."""

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor


def broadcast_like(
    value: Shaped[Tensor, "*b"], like: Float[Tensor, "b *shape"]
) -> Float[Tensor, "*ones"]:
    """View `value` so that it multiplies `like` row by row, in the dtype of `like`.

    A value without dimensions serves the whole batch and stays as it is: on the CPU it multiplies
    a tensor on any device without a synchronisation.
    """
    if value.ndim == 0:
        return value.to(like.dtype)
    return value.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def to_unit_range(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map bytes in [0, 255] to floats in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)


def to_bytes(image: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Map floats in [-1, 1] to bytes in [0, 255], clipping what lies outside."""
    return image.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
