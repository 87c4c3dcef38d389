"""Exact drawings of objects at any place and size, as pixel maps to be laid over images."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from ldmlab.data.vistas.materials import COLOURS, Material, light_of, object_palette
from ldmlab.data.vistas.scene import SLOTS
from ldmlab.data.vistas.shapes import object_parts

SIDE = 32
KINDS = SLOTS["object"][1:]
_FINE = 3 * SIDE
_STEP = 2 / _FINE
_SIZES = np.linspace(0.95, 1.15, 5)
_MATERIALS = {
    "house": (Material.MAIN, Material.ROOF, Material.DOOR, Material.WINDOW),
    "tree": (Material.DARK, Material.MAIN, Material.LIGHT),
    "boat": (Material.DARK, Material.MAIN, Material.LIGHT),
}


@dataclass(frozen=True)
class Drawings:
    """One kind of object in many poses; the first axis of every field is the pose.

    Attributes:
        pose: Centre, standing height and size, in normalised coordinates.
        mix: Share of each material in the object's own part of each pixel, 0 outside the object.
        alpha: How much of each pixel the object covers, in [0, 1].
        weight: How much a pixel counts: 0 where the object covers half of it or less, 1 inside.
    """

    pose: Float[Tensor, "t 3"]
    mix: Float[Tensor, "t m 1024"]
    alpha: Float[Tensor, "t 1024"]
    weight: Float[Tensor, "t 1024"]


def draw(kind: str, pose: Float[Tensor, "t 3"]) -> Drawings:
    """Draw one kind of object exactly as the renderer does.

    Args:
        kind: One of `KINDS`.
        pose: Centre, standing height and size of each drawing, in normalised coordinates.

    Returns:
        One drawing per pose, with the materials in the order of `palettes`.
    """
    painted = _paint(kind, *(pose.numpy().astype(np.float32)[:, k : k + 1] for k in range(3)))
    share = np.stack([_box(painted == material) for material in _MATERIALS[kind]], axis=1)
    covered = torch.from_numpy(share).flatten(2)
    alpha = covered.sum(dim=1)
    mix = covered / alpha.clamp_min(1e-6)[:, None]
    return Drawings(pose, mix, alpha, (2 * alpha - 1).clamp_min(0))


@functools.cache
def atlas(kind: str) -> Drawings:
    """One kind of object wherever it may stand, on a grid of 2/3 pixels and five sizes.

    Args:
        kind: One of `KINDS`.

    Returns:
        About 1,000 drawings; both sides and all places between them are covered.
    """
    grid = np.meshgrid(np.arange(0.21, 0.80, _STEP), np.arange(0.79, 0.925, _STEP), _SIZES)
    return draw(kind, torch.from_numpy(np.stack(grid, axis=-1).reshape(-1, 3)).float())


@functools.cache
def neighbours() -> Float[Tensor, "k 3"]:
    """Steps from a pose of the atlas to the poses between it and the next ones."""
    place, size = _STEP / 2, (_SIZES[1] - _SIZES[0]) / 2
    steps = np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij")
    return torch.from_numpy(np.stack(steps, axis=-1).reshape(-1, 3) * (place, place, size)).float()


@functools.cache
def palettes(kind: str) -> Float[Tensor, "palettes m 3"]:
    """Colours in [0, 1] of a kind's materials; times of day outside, object colours inside."""
    rows = []
    for time in range(len(SLOTS["time"])):
        light, window = light_of(np.full(len(COLOURS), time))
        rows.append(object_palette(COLOURS, light, window)[:, list(_MATERIALS[kind])])
    return torch.from_numpy(np.concatenate(rows)).clamp(0, 255) / 255


def _paint(kind: str, x0: ndarray, base: ndarray, scale: ndarray) -> UInt8[ndarray, "t 96 96"]:
    grid = ((np.arange(_FINE) + 0.5) / _FINE).astype(np.float32)
    painted = np.zeros((len(x0), _FINE, _FINE), np.uint8)
    for part in object_parts(kind, grid[None], x0, base, scale):
        inside = (grid > part.left[..., None]) & (grid < part.right[..., None])
        np.maximum(painted, inside * np.uint8(part.material), out=painted)
    return painted


def _box(fine: ndarray) -> Float[ndarray, "t 32 32"]:
    counts = fine.view(np.uint8)
    counts = counts[:, 0::3] + counts[:, 1::3] + counts[:, 2::3]
    counts = counts[..., 0::3] + counts[..., 1::3] + counts[..., 2::3]
    share: ndarray = counts.astype(np.float32) / 9
    return share
