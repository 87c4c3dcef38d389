"""What every distance asks of its rows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def as_rows(least: int, **sets: Float[Tensor, "..."]) -> list[Float[Tensor, "n d"]]:
    """Sets of rows in float64.

    Args:
        least: How many rows each set needs.
        **sets: The sets by their names.

    Raises:
        ValueError: A set is too small, holds what is not finite, or is of another width.
    """
    widths = {rows.shape[-1] for rows in sets.values()}
    if len(widths) > 1:
        raise ValueError(f"{' and '.join(sets)} have rows of different widths: {sorted(widths)}")
    for name, rows in sets.items():
        if rows.ndim != 2 or len(rows) < least:
            raise ValueError(f"{name} needs {least} rows or more; got shape {tuple(rows.shape)}")
        if not bool(torch.isfinite(rows).all()):
            raise ValueError(f"{name} holds numbers that are not finite")
    return [rows.double() for rows in sets.values()]
