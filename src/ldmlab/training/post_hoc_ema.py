"""Post-hoc EMA: an average of any length, synthesised from stored ones after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Profile:
    """The average p(tau) ~ tau^gamma of the weights up to an update.

    Attributes:
        updates: Number of updates it is taken after.
        gamma: Exponent; larger values forget sooner.
    """

    updates: int
    gamma: float


def coefficients(stored: Sequence[Profile], wanted: Profile) -> NDArray[np.float64]:
    """Factors of stored averages whose sum comes closest to another (Karras et al. 2024, alg. 3).

    Args:
        stored: What there is.
        wanted: What is asked for.

    Returns:
        The least-squares solution for the profiles, one factor for each stored average.
    """
    inner = np.array([[_inner(a, b) for b in stored] for a in stored])
    target = np.array([_inner(a, wanted) for a in stored])
    return np.linalg.lstsq(inner, target, rcond=None)[0]


def combine_weights(
    parts: Iterable[tuple[float, Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """The sum of factor times weights; what is no floating-point number is the last part's."""
    total: dict[str, Tensor] = {}
    for factor, weights in parts:
        for name, value in weights.items():
            if not value.is_floating_point():
                total[name] = value
            elif name in total:
                total[name].add_(value.double(), alpha=factor)
            else:
                total[name] = value.double() * factor
    return {
        name: value.float() if value.is_floating_point() else value for name, value in total.items()
    }


def _inner(a: Profile, b: Profile) -> float:
    """The integral of the product of two profiles (Karras et al. 2024, equation 157)."""
    ratio = a.updates / b.updates
    power = b.gamma if a.updates < b.updates else -a.gamma
    above = (a.gamma + 1) * (b.gamma + 1) * ratio**power
    return float(above / ((a.gamma + b.gamma + 1) * max(a.updates, b.updates)))
