"""The outline part of the strict object check: whether image and drawing share their edges."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

_REACH = 3  # pixels around the drawing in which its colours are looked for
_VISIBLE = 0.12  # colour distance from which object and surroundings can be told apart


def outline_overlap(
    pixels: Float[Tensor, "b 3 h w"],
    canvas: Float[Tensor, "b 3 h w"],
    alpha: Float[Tensor, "b h w"],
) -> Float[Tensor, " b"]:
    """Soft intersection over union of a drawing with the pixels that look like it around it.

    How much of a pixel is object is read off between two colours: that of the drawing, extended
    beyond its outline, and that of the surroundings, interpolated across it along the row. Pixels
    where the two hardly differ count less.

    Args:
        pixels: Image in [0, 1].
        canvas: Colours of the drawing where it covers a pixel at all, in [0, 1].
        alpha: How much of each pixel the drawing covers, in [0, 1].

    Returns:
        1 where the image agrees with the outline, 0 where nothing of the object is seen.
    """
    near = max_pool2d(alpha[:, None], 2 * _REACH + 1, stride=1, padding=_REACH)[:, 0] > 0.5
    around = _across(pixels, near)
    step = _grow(canvas, alpha > 0.05) - around
    contrast = step.square().sum(1)
    seen = ((pixels - around) * step).sum(1) / contrast.clamp_min(1e-4)
    seen = seen.clamp(0, 1)
    weight = near * (contrast / _VISIBLE**2).clamp(max=1)
    shared = (weight * torch.minimum(seen, alpha)).sum((1, 2))
    return shared / (weight * torch.maximum(seen, alpha)).sum((1, 2)).clamp_min(1e-4)


def _grow(
    values: Float[Tensor, "b 3 h w"], known: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b 3 h w"]:
    """Extend colours into the unknown, one ring of averaged neighbours after the other."""
    weight = known[:, None].float()
    values = values * weight
    for _ in range(_REACH + 1):
        total = avg_pool2d(values, 3, stride=1, padding=1)
        count = avg_pool2d(weight, 3, stride=1, padding=1)
        fresh = (weight == 0) & (count > 0)
        values = torch.where(fresh, total / count.clamp_min(1e-6), values)
        weight = torch.where(fresh, 1.0, weight)
    return values


def _across(
    pixels: Float[Tensor, "b 3 h w"], hidden: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b 3 h w"]:
    """Fill hidden pixels by interpolating along the row between the nearest visible ones."""
    width = pixels.shape[-1]
    steps = torch.arange(width).expand_as(hidden)
    left = torch.where(hidden, -1, steps).cummax(dim=2).values
    right = torch.where(hidden, width, steps).flip(2).cummin(dim=2).values.flip(2)
    start = torch.where(left >= 0, left, right).clamp(0, width - 1)
    end = torch.where(right < width, right, start)
    share = ((steps - start) / (end - start).clamp_min(1))[:, None]
    first, last = (pixels.gather(3, at[:, None].expand_as(pixels)) for at in (start, end))
    return first + (last - first) * share
