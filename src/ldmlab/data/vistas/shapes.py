"""The outlines of the world: spans along rows, columns below ridges, in normalised coordinates.

Every shape is either *spans* (left and right end on each row) or *columns* (top and bottom of
each column), so two comparisons fill it in a whole batch. x grows right, y grows down, in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ldmlab.data.vistas.materials import Material

Along = Float[ndarray, "#n s"]
"""One value per image and per row (or column) of the supersampled grid."""
Each = Float[ndarray, "#n 1"]
"""One value per image."""

NOWHERE = np.float32(9.0)
"""A coordinate outside of every picture: shapes that are absent start there."""


class Part(NamedTuple):
    """One flat-coloured piece of an object.

    Attributes:
        material: What it is made of.
        left: Where it starts on each row.
        right: Where it ends on each row; left of `left` on rows that it does not touch.
    """

    material: Material
    left: Along
    right: Along


def ellipse(y: Along, cx: Each, cy: Each, rx: Each, ry: Each) -> tuple[Along, Along]:
    """Spans of an ellipse with centre (cx, cy) and radii (rx, ry)."""
    inside = 1 - ((y - cy) / ry) ** 2
    half = np.where(inside > 0, rx * np.sqrt(np.maximum(inside, 0)), -NOWHERE)
    return cx - half, cx + half


def trapezoid(
    y: Along, top: Each, bottom: Each, upper: tuple[Each, Each], lower: tuple[Each, Each]
) -> tuple[Along, Along]:
    """Spans between two horizontal edges, each given by its left and right end."""
    share = (y - top) / (bottom - top)
    left = upper[0] + (lower[0] - upper[0]) * share
    right = upper[1] + (lower[1] - upper[1]) * share
    absent = (share < 0) | (share > 1)
    return np.where(absent, NOWHERE, left), np.where(absent, -NOWHERE, right)


def object_parts(kind: str, y: Along, x0: Each, base: Each, scale: Each) -> list[Part]:
    """The pieces of an object, back to front.

    Args:
        kind: "house", "tree" or "boat".
        y: Height of every row.
        x0: Centre of the object.
        base: Height at which it stands.
        scale: Size of one unit; a house is about 0.44 units wide and 0.4 high.

    Returns:
        At most four parts.
    """

    def box(material: Material, a: float, b: float, top: float, bottom: float = 0.0) -> Part:
        return slab(material, (a, b), (a, b), top, bottom)

    def slab(
        material: Material,
        upper: tuple[float, float],
        lower: tuple[float, float],
        top: float,
        bottom: float = 0.0,
    ) -> Part:
        ends = [(x0 + scale * a, x0 + scale * b) for a, b in (upper, lower)]
        return Part(material, *trapezoid(y, base - scale * top, base - scale * bottom, *ends))

    def blob(material: Material, x: float, up: float, r: float) -> Part:
        centre = (x0 + scale * x, base - scale * up)
        return Part(material, *ellipse(y, *centre, scale * r, scale * r))

    if kind == "house":
        return [
            box(Material.MAIN, -0.17, 0.17, 0.22),
            slab(Material.ROOF, (-0.015, 0.015), (-0.225, 0.225), 0.41, 0.21),
            box(Material.DOOR, -0.115, -0.035, 0.145),
            box(Material.WINDOW, 0.035, 0.115, 0.16, 0.08),
        ]
    if kind == "tree":
        return [
            box(Material.DARK, -0.035, 0.035, 0.2),
            blob(Material.MAIN, 0.0, 0.3, 0.165),
            blob(Material.LIGHT, -0.045, 0.345, 0.075),
        ]
    return [
        box(Material.DARK, -0.04, -0.01, 0.46, 0.08),
        slab(Material.MAIN, (-0.22, 0.22), (-0.14, 0.15), 0.1),
        slab(Material.LIGHT, (0.0, 0.01), (0.0, 0.2), 0.44, 0.135),
        slab(Material.LIGHT, (-0.06, -0.05), (-0.17, -0.05), 0.38, 0.135),
    ]


def peaks(
    x: Along,
    tops: Float[ndarray, "n p"],
    centres: Float[ndarray, "n p"],
    slopes: tuple[float, float],
) -> Along:
    """Upper edge of a row of triangular peaks, falling with one slope on each side."""
    run = x[:, None] - centres[..., None]
    left, right = slopes
    edges: Along = (tops[..., None] + np.maximum(run * right, -run * left)).min(axis=1)
    return edges


def cloud(x: Along, cx: Each, bottom: Each, scale: Each) -> Along:
    """Upper edge of a heap of three bulges that rests on `bottom`; `NOWHERE` beside it."""
    puffs = ((-0.10, 0.08, 0.055), (0.0, 0.095, 0.10), (0.11, 0.075, 0.06))
    top = np.full(np.broadcast_shapes(x.shape, cx.shape), NOWHERE, np.float32)
    for dx, rx, ry in puffs:
        inside = 1 - ((x - cx - scale * dx) / (scale * rx)) ** 2
        edge = bottom - scale * ry * np.sqrt(np.maximum(inside, 0))
        top = np.minimum(top, np.where(inside > 0, edge, NOWHERE))
    return top
