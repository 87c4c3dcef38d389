"""LPIPS (Zhang et al. 2018) behind a trunk: a distance of two images' features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_EPSILON = 1e-10  # of the published implementation


def lpips_distance(
    features: Sequence[Float[Tensor, "b _ _ _"]],
    others: Sequence[Float[Tensor, "b _ _ _"]],
    heads: Sequence[Float[Tensor, "..."]],
) -> Float[Tensor, " b"]:
    """Sum over layers of the weighted squared differences of unit features, means over positions.

    Args:
        features: A trunk's layers for one set of images.
        others: The same for the other set.
        heads: Weight of each channel, a tensor a layer, of any shape with so many entries.

    Returns:
        A distance for each pair of images, 0 for equal ones.

    Raises:
        ValueError: There is not one head a layer, or one of another width.
    """
    if not len(features) == len(others) == len(heads):
        raise ValueError(f"{len(features)} and {len(others)} layers have {len(heads)} heads")
    total = torch.zeros(len(features[0]), dtype=torch.float64, device=features[0].device)
    for a, b, head in zip(features, others, heads, strict=True):
        if head.numel() != a.shape[1]:
            raise ValueError(f"a head of {head.numel()} weights for {a.shape[1]} channels")
        difference = (_unit(a.double()) - _unit(b.double())).square()
        total += (difference * head.double().reshape(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


def _unit(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + _EPSILON)
