"""Renders scenes as images and masks: a fine grid of materials, coloured, averaged 3 x 3."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from ldmlab.data.vistas import shapes
from ldmlab.data.vistas.materials import Material, label_table, palettes
from ldmlab.data.vistas.scene import SLOTS, Scenes
from ldmlab.data.vistas.shapes import NOWHERE, Along, Each

_FINE = 3  # sub-pixels per pixel and axis
_FIELD = 16  # bits that a colour channel gets in a packed integer
_FRACTION = 16  # steps per grey level: 9 x 255 x 16 still fits in 16 bits
_CHUNK = 32  # images whose fine grids stay in the cache together
_HORIZON = 0.58


def render(
    scenes: Scenes, size: int = 32
) -> tuple[UInt8[ndarray, "n size size 3"], UInt8[ndarray, "n size size"]]:
    """Draw scenes; the same scene looks the same at every size.

    Args:
        scenes: What to draw; every slot that applies must have a value.
        size: Side of the square pictures in pixels.

    Returns:
        Pixels in RGB, and for each pixel the mask label at its centre.
    """
    images = np.empty((len(scenes), size, size, 3), np.uint8)
    masks = np.empty((len(scenes), size, size), np.uint8)
    for start in range(0, len(scenes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        part = scenes[rows]
        materials = _Canvas(part, size).paint()
        images[rows] = _colour(materials, *palettes(part), size)
        centres = materials[:, 1::_FINE, 1::_FINE]
        masks[rows] = np.take_along_axis(
            label_table(part), centres.reshape(len(part), -1), axis=1
        ).reshape(centres.shape)
    return images, masks


def _colour(
    materials: UInt8[ndarray, "n s s"],
    top: Float[ndarray, "n m 3"],
    bottom: Float[ndarray, "n m 3"],
    size: int,
) -> UInt8[ndarray, "n size size 3"]:
    """Look colours up per row and average blocks, the three channels packed in one integer."""
    n, kinds = len(materials), top.shape[1]
    share = _grid(size)[:, None, None]
    table = top[:, None] + (bottom - top)[:, None] * share
    whole = (np.clip(table, 0, 255) * _FRACTION + 0.5).astype(np.int64)
    packed = whole[..., 0] | whole[..., 1] << _FIELD | whole[..., 2] << 2 * _FIELD
    offsets = np.arange(n * size).repeat(_FINE).reshape(n, -1, 1) * kinds
    colours = packed.reshape(-1).take(offsets + materials, mode="clip")
    colours = colours[:, 0::_FINE] + colours[:, 1::_FINE] + colours[:, 2::_FINE]
    colours = colours[..., 0::_FINE] + colours[..., 1::_FINE] + colours[..., 2::_FINE]
    steps = _FRACTION * _FINE**2
    pixels = np.empty((n, size, size, 3), np.uint8)
    for channel in range(3):
        total = (colours >> channel * _FIELD & 0xFFFF).astype(np.uint16)
        pixels[..., channel] = (total + np.uint16(steps // 2)) // np.uint16(steps)
    return pixels


def _grid(fine: int) -> Float[ndarray, " s"]:
    return ((np.arange(fine) + 0.5) / fine).astype(np.float32)


class _Canvas:
    """The fine grid of a chunk of scenes while it is being painted."""

    def __init__(self, scenes: Scenes, size: int) -> None:
        self.scenes = scenes
        self.grid = _grid(size * _FINE)[None]
        self.materials = np.zeros((len(scenes), size * _FINE, size * _FINE), np.uint8)
        self._reach(0.0, 1.0)
        self._next = 7  # the palette and the object's pose use the first seven nuisance numbers

    def paint(self) -> UInt8[ndarray, "n s s"]:
        """Paint everything and return the material of each sub-pixel."""
        horizon = _HORIZON + 0.04 * (self._jitter() - 0.5)
        self._paint_sky()
        self._paint_backdrop(horizon)
        self._paint_ground(horizon)
        self._paint_object()
        return self.materials

    def _jitter(self, low: float = 0.0, high: float = 1.0) -> Each:
        value = self.scenes.jitter[:, self._next, None].astype(np.float32)
        self._next += 1
        return low + (high - low) * value

    def _where(self, slot: str, *values: str) -> ndarray:
        wanted = [SLOTS[slot].index(value) for value in values]
        return np.isin(self.scenes.slot(slot), wanted)[:, None]

    def _reach(self, low: float, high: float) -> None:
        """Promise that the next shapes lie between two heights, which saves the other rows."""
        fine = self.grid.shape[1]
        self._rows = slice(int(low * fine), int(np.ceil(high * fine)))
        self._target = self.materials[:, self._rows]

    def _spans(self, material: Material | ndarray, left: Along, right: Along) -> None:
        ends = left[:, self._rows, None], right[:, self._rows, None]
        self._fill(material, (self.grid[:, None] > ends[0]) & (self.grid[:, None] < ends[1]))

    def _columns(self, material: Material, top: Along, bottom: Along) -> None:
        y = self.grid[:, self._rows, None]
        self._fill(material, (y > top[:, None]) & (y < bottom[:, None]))

    def _fill(self, material: Material | ndarray, inside: ndarray) -> None:
        paint = inside.view(np.uint8)
        paint *= np.asarray(material, np.uint8)
        np.maximum(self._target, paint, out=self._target)

    def _paint_sky(self) -> None:
        night, cloudy = self._where("time", "night"), self._where("sky", "cloudy")
        y = self.grid
        self._reach(0.0, 0.42)
        present = self._jitter() < 0.8
        cx, cy = self._jitter(0.16, 0.84), self._jitter(0.15, 0.24)
        radius = np.where(present, self._jitter(0.095, 0.115), 1e-6).astype(np.float32)
        for _ in range(5):
            sx, sy = self._jitter(0.03, 0.97), self._jitter(0.03, 0.4)
            self._spans(Material.STAR, *shapes.ellipse(y, sx, sy, *2 * [night * 0.018 + 1e-6]))
        glow = radius * 1.45 * ~night + 1e-6
        self._spans(Material.HALO, *shapes.ellipse(y, cx, cy, glow, glow))
        left, right = shapes.ellipse(y, cx, cy, radius, radius)
        self._spans(Material.DISC, left, right)
        dark = shapes.ellipse(y, cx + 0.5 * radius, cy - 0.1 * radius, radius * 0.9, radius * 0.9)
        shadow = np.where(dark[0] < dark[1], dark[0], NOWHERE)
        self._spans(Material.LIT, left, np.where(night, np.minimum(right, shadow), -NOWHERE))
        for turn in (0.36, 0.68):
            centre = (cx + turn + self._jitter(-0.05, 0.05)) % 1.0
            bottom = self._jitter(0.17, 0.32)
            top = shapes.cloud(y, centre, bottom, self._jitter(1.0, 1.3))
            self._columns(Material.CLOUD, np.where(cloudy, top, NOWHERE), bottom + 0 * top)

    def _paint_backdrop(self, horizon: Each) -> None:
        hills, mountains = self._where("backdrop", "hills"), self._where("backdrop", "mountains")
        x = self.grid
        self._reach(0.18, 0.62)
        floor = horizon + 0 * x
        for material, height in ((Material.FAR, 0.13), (Material.HILL, 0.07)):
            wave = np.sin(x * self._jitter(7.0, 10.0) + self._jitter(0, 6.283))
            top = horizon - height - 0.055 * wave
            self._columns(material, np.where(hills, top, NOWHERE), floor)
        centres = np.concatenate([self._jitter(a, a + 0.16) for a in (0.02, 0.42, 0.82)], axis=1)
        tops = np.concatenate([horizon - self._jitter(0.22, 0.36) for _ in range(3)], axis=1)
        ridge = shapes.peaks(x, tops, centres, (1.1, 1.1))
        shade = shapes.peaks(x, tops, centres, (4.5, 1.1))
        cap = tops.min(axis=1, keepdims=True) + 0.12 + 0.018 * np.sin(x * 50)
        self._columns(Material.MOUNTAIN, np.where(mountains, ridge, NOWHERE), floor)
        self._columns(Material.SHADE, np.where(mountains, shade, NOWHERE), floor)
        self._columns(Material.CAP, np.where(mountains, ridge, NOWHERE), cap)

    def _paint_ground(self, horizon: Each) -> None:
        sea, x = self._where("ground", "sea"), self.grid
        self._reach(0.54, 1.0)
        self._columns(Material.GROUND, horizon + 0 * x, NOWHERE + 0 * x)
        for depth in (0.12, 0.28):
            pace = np.where(sea, 26.0, 8.0)
            height = np.where(sea, 0.012, 0.035)
            top = horizon + depth + height * np.sin(x * pace + self._jitter(0, 6.283))
            thick = np.where(sea, 0.03, 0.05 + 0.03 * np.sin(x * 5 + self._jitter(0, 6.283)))
            self._columns(Material.BAND, top.astype(np.float32), (top + thick).astype(np.float32))

    def _paint_object(self) -> None:
        y, kinds = self.grid, self.scenes.object
        x0, base, scale = object_pose(self.scenes)
        self._reach(0.22, 1.0)
        parts = [shapes.object_parts(kind, y, x0, base, scale) for kind in SLOTS["object"][1:]]
        some, afloat = kinds[:, None] > 0, self._where("object", "boat")
        sea = self._where("ground", "sea")
        island = shapes.ellipse(y, x0, base + 0.01, 0.27 * scale, 0.06 * scale)
        footprint = shapes.ellipse(y, x0, base, 0.25 * scale, 0.035 * scale)
        at_sea = some & sea & ~afloat
        self._spans(Material.ISLAND, island[0], np.where(at_sea, island[1], -NOWHERE))
        self._spans(Material.SHADOW, footprint[0], np.where(some & ~at_sea, footprint[1], -NOWHERE))
        for layer in range(max(map(len, parts))):
            left = np.full((len(kinds), y.shape[1]), NOWHERE, np.float32)
            right, material = -left, np.zeros((len(kinds), 1, 1), np.uint8)
            for kind, pieces in enumerate(parts, start=1):
                if layer < len(pieces):
                    rows = kinds == kind
                    left[rows], right[rows] = pieces[layer].left[rows], pieces[layer].right[rows]
                    material[rows] = pieces[layer].material
            self._spans(material, left, right)


def object_pose(scenes: Scenes) -> tuple[Each, Each, Each]:
    """Centre, standing height and size of each scene's object, in normalised coordinates."""
    jitter = scenes.jitter[:, 4:7].astype(np.float32)
    middle = np.where(scenes.side == 1, 0.72, 0.28)[:, None].astype(np.float32)
    x0 = middle + 0.09 * (jitter[:, 0:1] - 0.5)
    base = np.float32(0.80) + 0.11 * jitter[:, 1:2]
    scale = np.float32(0.95) + 0.2 * jitter[:, 2:3]
    return x0, base, scale
