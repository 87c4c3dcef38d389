"""What a landscape contains: the seven slots, their vocabularies and how scenes are drawn."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ldmlab.data.vistas.hashing import uniforms

SLOTS: dict[str, tuple[str, ...]] = {
    "time": ("day", "sunset", "night"),
    "ground": ("sea", "meadow", "desert", "snow"),
    "backdrop": ("flat", "hills", "mountains"),
    "object": ("none", "house", "tree", "boat"),
    "colour": ("red", "yellow", "blue", "purple"),
    "side": ("left", "right"),
    "sky": ("clear", "cloudy"),
}
"""Values of each slot; a scene holds positions in these tuples, -1 where a slot does not apply."""

JITTERS = 42
"""How many nuisance numbers a scene carries; the renderer gives each its meaning."""

_BACKDROPS = ("on the plain", "before hills", "before mountains")
CLASSES = tuple(
    f"{'nothing' if kind == 'none' else kind} {where}"
    for kind in SLOTS["object"]
    for where in _BACKDROPS
)
"""The class names: object kind by backdrop, which shapes tell and colours do not."""


@dataclass(frozen=True)
class Scenes:
    """The attributes of n images, as arrays of positions in `SLOTS`.

    Attributes:
        time: Time of day.
        ground: What the land is made of.
        backdrop: What rises behind the land.
        object: Kind of the object in front.
        colour: Colour of the object; -1 without an object.
        side: Side on which the object stands; -1 without an object.
        sky: Whether there are clouds.
        jitter: Nuisance numbers in [0, 1): places, sizes, phases, light.
    """

    time: Int[ndarray, " n"]
    ground: Int[ndarray, " n"]
    backdrop: Int[ndarray, " n"]
    object: Int[ndarray, " n"]
    colour: Int[ndarray, " n"]
    side: Int[ndarray, " n"]
    sky: Int[ndarray, " n"]
    jitter: Float[ndarray, "n jitters"]

    @classmethod
    def from_table(cls, slots: Int[ndarray, "n 7"], jitter: Float[ndarray, "n jitters"]) -> Scenes:
        """Scenes whose slots are the columns of a table, in the order of `SLOTS`."""
        return cls(**dict(zip(SLOTS, slots.T, strict=True)), jitter=jitter)

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice | list[int] | Int[ndarray, " m"]) -> Scenes:
        """The scenes at `rows`."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def slot(self, name: str) -> Int[ndarray, " n"]:
        """The values of the slot called `name`, which must be a key of `SLOTS`."""
        if name not in SLOTS:
            raise KeyError(name)
        values: ndarray = getattr(self, name)
        return values

    @property
    def label(self) -> Int[ndarray, " n"]:
        """Class of each scene, a position in `CLASSES`."""
        label: ndarray = self.object * len(_BACKDROPS) + self.backdrop
        return label

    @property
    def held_out(self) -> Bool[ndarray, " n"]:
        """Whether a scene's (object and colour, ground, time) is kept out of training."""
        return is_held_out(self.object, self.colour, self.ground, self.time)


def is_held_out(
    kind: Int[ndarray, " n"],
    colour: Int[ndarray, " n"],
    ground: Int[ndarray, " n"],
    time: Int[ndarray, " n"],
) -> Bool[ndarray, " n"]:
    """Whether a composition is one of the 12 of 144 that the normal splits never show.

    Each object in each colour misses exactly one pair of ground and time, so every object, colour,
    ground and time is held out equally often and is still seen in training.
    """
    diagonal = kind - 1 + colour
    hidden: ndarray = (kind > 0) & (ground == diagonal % 4) & (time == diagonal % 3)
    return hidden


def sample_scenes(seed: int, indices: Int[ndarray, " n"], held_out: bool = False) -> Scenes:
    """Draw the scenes at `indices`, each of them a function of `(seed, index)` only.

    Args:
        seed: Seed of the world.
        indices: Index of each scene.
        held_out: Draw only held-out compositions instead of never drawing one.

    Returns:
        One scene per index, every slot uniform given that it applies.
    """
    indices = np.asarray(indices, np.int64)
    slots = _draw_slots(seed, indices, 1, held_out)
    attempt = 2
    while not held_out and (again := np.flatnonzero(_held_out_rows(slots))).size:
        slots[again] = _draw_slots(seed, indices[again], attempt, held_out)
        attempt += 1
    return Scenes.from_table(slots, uniforms(seed, indices, JITTERS, stream=0))


def _held_out_rows(slots: Int[ndarray, "n 7"]) -> Bool[ndarray, " n"]:
    time, ground, _, kind, colour, _, _ = slots.T
    return is_held_out(kind, colour, ground, time)


def _draw_slots(
    seed: int, indices: Int[ndarray, " n"], attempt: int, held_out: bool
) -> Int[ndarray, "n 7"]:
    sizes = np.array([len(values) for values in SLOTS.values()])
    slots: ndarray = (uniforms(seed, indices, len(sizes), stream=attempt) * sizes).astype(np.int64)
    time, ground, _, kind, colour, side, _ = slots.T  # views: writing to them writes the rows
    if held_out:
        kind[:] = 1 + (uniforms(seed, indices, 1, stream=attempt + 1)[:, 0] * 3).astype(np.int64)
        ground[:] = (kind - 1 + colour) % 4
        time[:] = (kind - 1 + colour) % 3
    colour[kind == 0] = -1
    side[kind == 0] = -1
    return slots
