"""Fidelity and diversity apart: how far two sets cover the balls about each other's rows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ldmlab.core.ranges import positive_int
from ldmlab.evaluation.distances.neighbours import inside, nearest
from ldmlab.evaluation.distances.rows import as_rows


def precision_recall(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, k: int = 3
) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, equation 2).

    Each row has a ball that reaches to its k-th neighbour in its own set, itself left out.

    Args:
        real: Rows of the reference, more than k.
        fake: Rows of the samples, more than k.
        k: Which neighbour.

    Returns:
        Precision, the share of `fake` in or on a ball of `real`, and recall, the share of `real`
        in or on a ball of `fake`.

    Raises:
        ValueError: A set is too small, not finite, or of another width.
    """
    positive_int(k=k)
    real, fake = as_rows(k + 1, real=real, fake=fake)
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def density_coverage(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, k: int = 5
) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, equations 5 and 6), which outliers fool less.

    Args:
        real: Rows of the reference, more than k; balls reach to their k-th neighbours.
        fake: Rows of the samples.
        k: Which neighbour.

    Returns:
        Density, how many balls of `real` hold a row of `fake`, over k: 1 is as dense as the
        reference, and more is denser; and coverage, the share of the balls that hold any.

    Raises:
        ValueError: A set is too small, not finite, or of another width.
    """
    positive_int(k=k)
    real, fake = as_rows(1, real=real, fake=fake)
    radii = _radii(real, k)
    hits, covered = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for block in inside(fake, real, radii, strictly=True):
        hits += int(block.sum())
        covered |= block.any(0)
    return hits / (k * len(fake)), _share(covered)


def _share_inside(points: Float[Tensor, "n d"], centres: Float[Tensor, "m d"], k: int) -> float:
    blocks = inside(points, centres, _radii(centres, k), strictly=False)
    return _share(torch.cat([block.any(1) for block in blocks]))


def _radii(rows: Float[Tensor, "n d"], k: int) -> Float[Tensor, " n"]:
    return nearest(rows, rows, k, itself=True)[0][:, -1]


def _share(verdicts: Bool[Tensor, " n"]) -> float:
    return float(verdicts.double().mean())
