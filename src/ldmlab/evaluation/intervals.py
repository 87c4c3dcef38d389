"""How far a number may be off because the images were these and no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

Interval = tuple[float, float]
_Z = 1.959963984540054  # of 95 %


def of_mean(values: Sequence[float]) -> Interval | None:
    """95 % interval of a mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    numbers = torch.tensor(values, dtype=torch.float64)
    half = _Z * float(numbers.std()) / math.sqrt(len(values))
    return float(numbers.mean()) - half, float(numbers.mean()) + half


def of_share(share: float, count: int) -> Interval:
    """95 % interval of a share among independent trials (Wilson 1927)."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # At an end the interval has the share itself, which rounding would leave out.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def by_jackknife(
    measure: Callable[[Int[Tensor, " k"]], float], count: int, value: float, folds: int
) -> Interval | None:
    """95 % interval by leaving out each of several equal folds (the grouped jackknife).

    Unlike the bootstrap, which sees rows twice, it does not double a Fréchet distance's bias.

    Args:
        measure: The metric of the rows at these positions.
        count: How many rows there are.
        value: The metric of all rows, the middle of the interval.
        folds: How many folds; fewer than 2, or more than half the rows, give None.
    """
    if folds < 2 or folds > count // 2:
        return None
    rows = torch.arange(count)
    without = [measure(rows[rows % folds != fold]) for fold in range(folds)]
    return of_leave_outs(without, value)


def of_leave_outs(without: Sequence[float], value: float) -> Interval:
    """95 % interval about a value, by its values without each of several equal folds."""
    folds, values = len(without), torch.tensor(without, dtype=torch.float64)
    error = math.sqrt((folds - 1) / folds * float((values - values.mean()).square().sum()))
    return around(value, error)


def around(value: float, error: float) -> Interval:
    """95 % interval about a value, by its standard error."""
    return value - _Z * error, value + _Z * error
