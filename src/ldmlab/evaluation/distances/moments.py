"""Fréchet distance of two sets of rows (Heusel et al. 2017, equation 6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.evaluation.distances.rows import as_rows


def frechet(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """Fréchet distance of the Gaussians that have the means and covariances of two sets.

    Covariances divide by the count less one. The result has no unit, falls with the size of the
    sets, and is 0 for a set with itself up to rounding, which may be negative.

    Args:
        real: Rows of one set, 2 or more.
        fake: Rows of the other.

    Raises:
        ValueError: A set is too small, not finite, or of another width.
    """
    real, fake = as_rows(2, real=real, fake=fake)
    return distance_of_roots(real.mean(0), _root_of_rows(real), fake.mean(0), _root_of_rows(fake))


def frechet_from_moments(
    mean_a: Float[Tensor, " d"],
    cov_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, " d"],
    cov_b: Float[Tensor, "d d"],
) -> float:
    """Fréchet distance of two Gaussians, by their means and covariances."""
    roots = [root_of_covariance(cov.double()) for cov in (cov_a, cov_b)]
    return distance_of_roots(mean_a.double(), roots[0], mean_b.double(), roots[1])


def distance_of_roots(
    mean_a: Float[Tensor, " d"],
    root_a: Float[Tensor, "p d"],
    mean_b: Float[Tensor, " d"],
    root_b: Float[Tensor, "q d"],
) -> float:
    """Fréchet distance of Gaussians with covariances A'A and B'B.

    The trace of their geometric mean is the nuclear norm of AB'. A square root of the product
    itself loses digits where a set has fewer rows than columns.

    Args:
        mean_a: One mean.
        root_a: A.
        mean_b: The other mean.
        root_b: B.
    """
    both = torch.linalg.svdvals(root_a @ root_b.T).sum()
    spread = root_a.square().sum() + root_b.square().sum() - 2 * both
    return float((mean_a - mean_b).square().sum() + spread)


def _root_of_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "p d"]:
    """A with A'A the covariance, of no more rows than columns."""
    centred = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
    if len(rows) <= rows.shape[1]:
        return centred
    return torch.linalg.qr(centred, mode="r").R


def root_of_covariance(cov: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """A with A'A a covariance, in float64."""
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    # What is rounding of a zero would have a root a hundred million times larger.
    noise = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    values = torch.where(values > noise, values, 0)
    return values.sqrt()[:, None] * vectors.T
