"""Exact Euclidean neighbours among many rows, a block of pairs in memory at a time.

Products of matrices give the distances fast, and rounded: copies of a row would lie apart by some
1e-8. Where a comparison is closer than that, the rows themselves are subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_BLOCK = 4096
_PAIRS = 1 << 22  # numbers of a difference of rows in memory
_ROUNDING = 1e-11  # of a squared distance, over the rows' squared lengths; 45 times what is seen


def nearest(
    rows: Float[Tensor, "n d"], among: Float[Tensor, "m d"], k: int, *, itself: bool = False
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k nearest rows of a set, for each row of another.

    Args:
        rows: Whose neighbours are sought, in float64.
        among: Where they are sought.
        k: How many.
        itself: Whether both are the same set, and row i is no neighbour of its own; its copies are.

    Returns:
        Distances from the nearest on, and positions in `among`.

    Raises:
        ValueError: There are fewer than k neighbours.
    """
    if len(among) - itself < k:
        raise ValueError(f"{len(among)} rows have no {k} neighbours each")
    # A few more than asked for, in case that rounding has exchanged some at the edge.
    more = min(len(among) - itself, k + 2)
    distances, positions = [], []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        squared = _squared(block, among, among[:1])
        if itself:
            squared[torch.arange(len(block)), torch.arange(start, start + len(block))] = torch.inf
        found = squared.topk(more, dim=1, largest=False).indices
        exact = _exact(block, among, found)
        order = exact.argsort(dim=1, stable=True)[:, :k]
        distances.append(exact.gather(1, order))
        positions.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(positions)


def inside(
    points: Float[Tensor, "n d"],
    centres: Float[Tensor, "m d"],
    radii: Float[Tensor, " m"],
    *,
    strictly: bool,
) -> Iterator[Bool[Tensor, "block m"]]:
    """Whether each point lies in the ball about each centre, blocks of points at a time.

    Args:
        points: Rows in float64.
        centres: Rows in float64.
        radii: Radius of each ball.
        strictly: Whether the surface of a ball is outside.

    Yields:
        A table a block, a row a point.
    """
    origin = centres[:1]
    lengths = (centres - origin).square().sum(1)
    for block in points.split(_BLOCK):
        squared, limit = _squared(block, centres, origin), radii.square()
        verdict = squared < limit if strictly else squared <= limit
        scale = (block - origin).square().sum(1)[:, None] + lengths
        close = ((squared - limit).abs() <= _ROUNDING * scale).nonzero()
        for part in close.split(max(1, _PAIRS // points.shape[1])):
            point, centre = part.unbind(1)
            distance = torch.linalg.vector_norm(block[point] - centres[centre], dim=1)
            limits = radii[centre]
            verdict[point, centre] = distance < limits if strictly else distance <= limits
        yield verdict


def _squared(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], origin: Float[Tensor, "1 d"]
) -> Float[Tensor, "n m"]:
    """Squared distances; from an origin near the rows, or a common offset would cost the digits."""
    x, y = x - origin, y - origin
    return x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T


def _exact(
    rows: Float[Tensor, "n d"], among: Float[Tensor, "m d"], found: Int[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    step = max(1, _PAIRS // (rows.shape[1] * found.shape[1]))
    parts = zip(rows.split(step), found.split(step), strict=True)
    norms = [torch.linalg.vector_norm(among[near] - part[:, None], dim=2) for part, near in parts]
    return torch.cat(norms)
