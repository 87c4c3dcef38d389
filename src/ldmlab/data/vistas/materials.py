"""Materials of the rendered world, and their colours at each time of day."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from ldmlab.data.vistas.scene import Scenes

MASK_LABELS = tuple("sky disc cloud hills mountains sea meadow desert snow house tree boat".split())
"""Names of the mask's labels; sun and moon share one, so a mask does not tell the time."""


class Material(IntEnum):
    """Numbered from back to front, so that painting over is taking the maximum."""

    SKY = 0
    STAR = 1
    HALO = 2
    DISC = 3
    LIT = 4
    CLOUD = 5
    FAR = 6
    HILL = 7
    MOUNTAIN = 8
    SHADE = 9
    CAP = 10
    GROUND = 11
    BAND = 12
    SHADOW = 13
    ISLAND = 14
    DARK = 15
    MAIN = 16
    LIGHT = 17
    ROOF = 18
    DOOR = 19
    WINDOW = 20


_SKY_LABELS = {Material.DISC: 1, Material.LIT: 1, Material.CLOUD: 2, Material.FAR: 3}
_SKY_LABELS |= {Material.HILL: 3, Material.MOUNTAIN: 4, Material.SHADE: 4, Material.CAP: 4}
_SAND = 7


def label_table(scenes: Scenes) -> UInt8[ndarray, "n materials"]:
    """The mask label of each material in each scene; the sand of an island counts as desert."""
    table = np.zeros((len(scenes), len(Material)), np.uint8)
    for material, label in _SKY_LABELS.items():
        table[:, material] = label
    table[:, Material.GROUND : Material.ISLAND] = (5 + scenes.ground)[:, None]
    table[:, Material.ISLAND] = _SAND
    table[:, Material.DARK :] = (8 + scenes.object)[:, None]
    return table


def _rgb(*rows: tuple[int, int, int]) -> Float[ndarray, "rows 3"]:
    return np.array(rows, np.float32)


_DAY_SUNSET_NIGHT = {
    "zenith": _rgb((72, 150, 232), (98, 62, 148), (22, 28, 84)),
    "horizon": _rgb((186, 224, 248), (252, 142, 112), (92, 106, 176)),
    "halo": _rgb((240, 240, 214), (255, 178, 108), (62, 76, 142)),
    "disc": _rgb((255, 236, 92), (255, 226, 120), (74, 84, 134)),
    "lit": _rgb((255, 236, 92), (255, 226, 120), (248, 246, 220)),
    "cloud": _rgb((252, 252, 255), (255, 196, 178), (142, 150, 190)),
    "haze": _rgb((150, 186, 218), (176, 104, 130), (62, 74, 132)),
    "cap": _rgb((244, 248, 252), (255, 208, 196), (172, 182, 220)),
    "window": _rgb((206, 232, 246), (255, 224, 150), (255, 226, 130)),
    "land_light": _rgb((100, 100, 100), (98, 78, 72), (54, 60, 86)) / 100,
    "object_light": _rgb((100, 100, 100), (100, 86, 80), (76, 78, 94)) / 100,
}
_GROUNDS = _rgb((44, 122, 190), (112, 182, 72), (222, 174, 108), (232, 240, 248))
_RISES = _rgb((54, 106, 96), (72, 124, 78), (164, 112, 78), (140, 156, 182))
COLOURS = _rgb((222, 40, 36), (252, 212, 36), (34, 82, 226), (152, 44, 190))
"""Daylight colour of the object in each value of the slot `colour`."""
_ROOF, _DOOR, _WOOD = _rgb((92, 70, 66), (64, 42, 36), (104, 70, 44))
_SAND_COLOUR = _rgb((232, 204, 140))[0]


def object_palette(
    colour: Float[ndarray, "n 3"], light: Float[ndarray, "n 3"], window: Float[ndarray, "n 3"]
) -> Float[ndarray, "n materials 3"]:
    """Colours of an object's materials under a light; the other materials stay black."""
    palette = np.zeros((len(colour), len(Material), 3), np.float32)
    palette[:, Material.MAIN] = colour * light
    palette[:, Material.LIGHT] = (colour * 0.62 + 255 * 0.38) * light
    palette[:, Material.ROOF] = _ROOF * light
    palette[:, Material.DOOR] = _DOOR * light
    palette[:, Material.DARK] = _WOOD * light
    palette[:, Material.WINDOW] = window
    return palette


def light_of(time: ndarray) -> tuple[Float[ndarray, "n 3"], Float[ndarray, "n 3"]]:
    """The light on objects and the colour of a window, at each time of day."""
    return _DAY_SUNSET_NIGHT["object_light"][time], _DAY_SUNSET_NIGHT["window"][time]


def palettes(scenes: Scenes) -> tuple[Float[ndarray, "n m 3"], Float[ndarray, "n m 3"]]:
    """Colours of every material at the top and at the bottom of each picture.

    Args:
        scenes: Whose time, ground, object colour and nuisance tints are used.

    Returns:
        Two tables in [0, 255] before clipping; a row's colour lies linearly between them.
    """
    at = {name: values[scenes.time] for name, values in _DAY_SUNSET_NIGHT.items()}
    land, light = at["land_light"], at["object_light"]
    ground = _GROUNDS[scenes.ground] * land
    rise = _RISES[scenes.ground] * land
    top = object_palette(COLOURS[scenes.colour], light, at["window"])
    top[:, Material.STAR] = (236, 236, 214)
    top[:, Material.HALO] = at["halo"]
    top[:, Material.DISC] = at["disc"]
    top[:, Material.LIT] = at["lit"]
    top[:, Material.CLOUD] = at["cloud"]
    top[:, Material.FAR] = 0.5 * rise + 0.5 * at["haze"]
    top[:, Material.HILL] = 0.85 * rise + 0.15 * at["haze"]
    top[:, Material.MOUNTAIN] = 0.6 * rise + 0.4 * at["haze"]
    top[:, Material.SHADE] = 0.72 * top[:, Material.MOUNTAIN]
    top[:, Material.CAP] = at["cap"]
    top[:, Material.ISLAND] = _SAND_COLOUR * land
    bottom = top.copy()
    top[:, Material.SKY] = at["zenith"]
    bottom[:, Material.SKY] = at["zenith"] + (at["horizon"] - at["zenith"]) / 0.6
    for material, shade in ((Material.GROUND, 1.0), (Material.BAND, 1.1), (Material.SHADOW, 0.72)):
        top[:, material] = ground * shade * 1.12
        bottom[:, material] = ground * shade * 0.88
    tint = 1 + 0.12 * (scenes.jitter[:, None, :3] - 0.5)
    gain = tint * (1 + 0.12 * (scenes.jitter[:, None, 3:4] - 0.5))
    return (top * gain).astype(np.float32), (bottom * gain).astype(np.float32)
