"""Small tensor helpers shared by every layer."""

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

Factor = float | Shaped[Tensor, " *b"]


def broadcast_like(
    value: Shaped[Tensor, " *b"], like: Float[Tensor, " b *shape"]
) -> Float[Tensor, "*ones"]:
    """View `value` so that it multiplies `like` row by row, in the dtype of `like`.

    A value without dimensions serves the whole batch and stays as it is: on the CPU it multiplies
    a tensor on any device without a synchronisation.
    """
    if value.ndim == 0:
        return value.to(like.dtype)
    return value.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def combine(
    a: Factor, x: Float[Tensor, " b *shape"], b: Factor, y: Float[Tensor, " b *shape"]
) -> Float[Tensor, " b *shape"]:
    """a x + b y row by row; factors without dimensions, on the CPU, serve the whole batch.

    Those are plain numbers to the device: products with 0 and 1 are left out, for what a sampler
    does between two calls of its network is made of such sums.
    """
    if not is_number(a) or not is_number(b):
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        return broadcast_like(a, x) * x + broadcast_like(b, x) * y
    a, b = float(a), float(b)
    if a == 0:
        x, a, b = y, b, 0.0
    if b == 0:
        return x if a == 1 else x * a
    return (x * a).add_(y, alpha=b)


def is_number(value: Factor) -> bool:
    """Whether a factor is known without asking a device: a number, or a CPU tensor that is one."""
    return isinstance(value, float) or (value.ndim == 0 and value.device.type == "cpu")


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Keeps products on the device of `like` in their own dtype, under mixed precision too."""
    kind = like.device.type
    # The meta device has no mixed precision to leave.
    available = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if available else nullcontext()


def first_not_finite(rows: Float[Tensor, " b *shape"]) -> int | None:
    """The first row that holds a NaN or an infinity; None where all numbers are finite."""
    spoilt = ~torch.isfinite(rows).flatten(1).all(1)
    return int(spoilt.nonzero()[0]) if bool(spoilt.any()) else None


def to_unit_range(
    pixels: UInt8[Tensor, "*shape"], out: Float[Tensor, "*shape"] | None = None
) -> Float[Tensor, "*shape"]:
    """Map bytes in [0, 255] to floats in [-1, 1].

    Args:
        pixels: The bytes.
        out: Where the floats are written; a new tensor by default.
    """
    floats = pixels.to(torch.float32) if out is None else out.copy_(pixels)
    return floats.div_(127.5).sub_(1)


def to_bytes(image: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Map floats in [-1, 1] to bytes in [0, 255], clipping what lies outside."""
    return image.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that name tensors by their names, types, shapes and bits."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        bits = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(bits.numpy().data)
    return digest.hexdigest()[:16]
