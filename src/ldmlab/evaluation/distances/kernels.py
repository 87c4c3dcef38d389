"""Kernel distances: maximum mean discrepancies of two sets of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import natural, positive_int
from ldmlab.evaluation.distances.rows import as_rows

_BLOCK = 4096
Kernel = Callable[[Tensor, Tensor], Tensor]


def kernel(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    *,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 2020,
) -> tuple[float, float]:
    """Kernel distance with (x·y / d + 1)³, unbiased (Bińkowski et al. 2018, section 4).

    It may be negative, and its expectation does not depend on the sizes of the sets.

    Args:
        real: Rows of one set, 2 or more.
        fake: Rows of the other; the sizes may differ.
        subset_size: Rows of each set in a subset, drawn as torch-fidelity draws them; None takes
            all pairs at once.
        subsets: How many subsets.
        seed: Seed of the draws.

    Returns:
        The mean over subsets and their standard deviation; NaN for the latter without subsets.

    Raises:
        ValueError: A set is too small for the subsets, not finite, or of another width.
    """
    real, fake = as_rows(2, real=real, fake=fake)
    if subset_size is None:
        return _unbiased(real, fake), math.nan
    positive_int(subsets=subsets)
    natural(seed=seed)
    smaller = min(len(real), len(fake))
    if not 2 <= subset_size <= smaller:
        raise ValueError(f"subset_size must lie in 2 to {smaller}, the smaller set's rows")
    generator = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        chosen_fake = generator.choice(len(fake), subset_size, replace=False)
        chosen_real = generator.choice(len(real), subset_size, replace=False)
        values.append(_unbiased(real[chosen_real], fake[chosen_fake]))
    return float(np.mean(values)), float(np.std(values))


def cmmd(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024), times 1000 as published.

    The biased estimate with a Gaussian kernel of width 10: 0 for a set with itself, and above.

    Args:
        real: Unit rows of one set.
        fake: Unit rows of the other.

    Raises:
        ValueError: A set is empty, not finite, or of another width.
    """
    real, fake = as_rows(1, real=real, fake=fake)
    # The ones of the three means cancel: without them no digits are lost to kernels near 1.
    return 1000 * (
        _sum(real, real, _gaussian_less_one) / len(real) ** 2
        + _sum(fake, fake, _gaussian_less_one) / len(fake) ** 2
        - 2 * _sum(real, fake, _gaussian_less_one) / (len(real) * len(fake))
    )


def _polynomial(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _gaussian_less_one(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return torch.expm1(-squared.clamp(min=0) / (2 * 10**2))


def _unbiased(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    def own(rows: Float[Tensor, "n d"]) -> float:
        diagonal = (rows.square().sum(1) / rows.shape[1] + 1) ** 3
        whole = _sum(rows, rows, _polynomial) - float(diagonal.sum())
        return whole / (len(rows) * (len(rows) - 1))

    between = _sum(real, fake, _polynomial) / (len(real) * len(fake))
    return own(real) + own(fake) - 2 * between


def _sum(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel) -> float:
    """Sum of the kernel over all pairs, a block of them in memory at a time."""
    return float(sum(kernel(a, b).sum() for a in x.split(_BLOCK) for b in y.split(_BLOCK)))
