"""The strict object check: whether an exact drawing of the object explains the pixels.

A network that has only seen this world calls any coloured blob a house. Here no network is asked:
every place and size of every kind is laid over the image, in the colour and light that the scene
asks for, and the object counts when the best drawing is of the right kind, close to the pixels
inside its outline, and bounded by that outline. Only brightness is free, within the world's range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from ldmlab.data.vistas.scene import SLOTS, Scenes
from ldmlab.evaluation.vistas.outline import outline_overlap
from ldmlab.evaluation.vistas.templates import (
    KINDS,
    SIDE,
    Drawings,
    atlas,
    draw,
    neighbours,
    palettes,
)

MAX_ERROR = {"house": 0.085, "tree": 0.06, "boat": 0.08}
"""Largest root mean squared error inside the outline; pixels lie in [0, 1]."""

MAX_SHARE = 0.65
"""Largest error as a share of the drawing's own contrast: dim objects allow less error."""

MIN_OVERLAP = 0.55
"""Smallest intersection over union of the drawing's outline and the image's."""

_GAIN = (0.87, 1.13)
_HOPELESS = 0.15
_CHUNK = 32


@dataclass(frozen=True)
class ObjectFit:
    """The best drawing of each kind for every image, in the order of the slot "object".

    Attributes:
        error: Root mean squared difference inside the outline, pixels in [0, 1].
        contrast: Standard deviation of the drawing's own colours inside the outline.
        overlap: Intersection over union of the outline with the pixels that look like the object.
    """

    error: Float[Tensor, "b kinds"]
    contrast: Float[Tensor, "b kinds"]
    overlap: Float[Tensor, "b kinds"]

    @property
    def passes(self) -> Bool[Tensor, "b kinds"]:
        """Whether a kind's drawing is close enough to be called that object."""
        close = self.error < torch.tensor([MAX_ERROR[kind] for kind in KINDS])
        return close & (self.error < MAX_SHARE * self.contrast) & (self.overlap > MIN_OVERLAP)

    @property
    def verdict(self) -> Int[Tensor, " b"]:
        """The nearest kind if it passes, as a position in the slot "object"; 0 for none."""
        best = self.error.argmin(dim=1, keepdim=True)
        return torch.where(self.passes.gather(1, best), best + 1, 0)[:, 0]


def fit_objects(images: Float[Tensor, "b 3 h w"], scenes: Scenes) -> ObjectFit:
    """Lay every drawing over the images.

    Args:
        images: Pixels in [-1, 1] at any size; others than 32 x 32 are averaged down.
        scenes: What is asked for; colour and time narrow the drawings, -1 leaves them open.

    Returns:
        The best drawing of each kind.
    """
    if images.shape[-2:] != (SIDE, SIDE):
        images = interpolate(images, (SIDE, SIDE), mode="area")
    pixels = (images.detach().cpu().float() + 1) / 2
    chunks = zip(pixels.split(_CHUNK), _allowed(scenes).split(_CHUNK), strict=True)
    fits = [[_fit(kind, rows, allowed) for kind in KINDS] for rows, allowed in chunks]
    columns = [
        torch.cat([torch.stack([kind[k] for kind in fit], 1) for fit in fits]) for k in range(3)
    ]
    return ObjectFit(*columns)


def strict_objects(images: Float[Tensor, "b 3 h w"], scenes: Scenes) -> Bool[Tensor, " b"]:
    """Whether each image shows exactly the object that its scene asks for.

    Args:
        images: Pixels in [-1, 1].
        scenes: What is asked for; an open object (-1) is always granted.

    Returns:
        One verdict per image. "none" is granted where no drawing of any kind and colour passes.
    """
    asked = torch.from_numpy(scenes.object.copy())
    return (fit_objects(images, scenes).verdict == asked) | (asked < 0)


def _allowed(scenes: Scenes) -> Bool[Tensor, "b palettes"]:
    """Which palettes, times of day by colours, each scene leaves open."""
    tables = []
    for slot in ("time", "colour"):
        asked = torch.from_numpy(scenes.slot(slot).copy())[:, None]
        tables.append((asked < 0) | (asked == torch.arange(len(SLOTS[slot]))))
    time, colour = tables
    return (time[:, :, None] & colour[:, None]).flatten(1)


def _fit(
    kind: str, pixels: Float[Tensor, "b 3 32 32"], allowed: Bool[Tensor, "b palettes"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Error, contrast and overlap of the best pose, palette and brightness of one kind."""
    grid, flat = atlas(kind), pixels.flatten(2)
    inside = grid.weight[:, None] * grid.mix
    seen = torch.einsum("tmp,bcp->btmc", inside, flat)
    energy = torch.einsum("tp,bcp->btc", grid.weight, flat.square())
    gram = torch.einsum("tmp,tnp->tmn", inside, grid.mix)
    least = torch.full((len(flat),), torch.inf)
    pose, palette = torch.zeros(2, len(flat), dtype=torch.long)
    for number, colours in enumerate(palettes(kind)):
        rows = allowed[:, number].nonzero()[:, 0]
        error, _ = _errors(seen[rows], energy[rows], gram, grid.weight.sum(1), colours)
        lowest, where = error.min(dim=1)
        better = lowest < least[rows]
        rows, where = rows[better], where[better]
        least[rows], pose[rows], palette[rows] = lowest[better], where, number
    overlap, contrast = torch.zeros(2, len(flat))
    hopeful = (least < _HOPELESS).nonzero()[:, 0]
    if len(hopeful):
        drawings, colours = (
            _around(kind, grid.pose[pose[hopeful]]),
            palettes(kind)[palette[hopeful]],
        )
        least[hopeful], contrast[hopeful], overlap[hopeful] = _refine(
            drawings, pixels[hopeful], colours
        )
    return least, contrast, overlap


def _errors(
    seen: Float[Tensor, "b t m 3"],
    energy: Float[Tensor, "b t 3"],
    gram: Float[Tensor, "*b t m m"],
    area: Float[Tensor, "*b t"],
    colours: Float[Tensor, "*b m 3"],
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t 3"]]:
    """Root mean squared error of each drawing, each channel at its best brightness."""
    match = (seen * colours[..., None, :, :]).sum(2)
    power = torch.einsum("...tmn,...mc,...nc->...tc", gram, colours, colours)
    gain = (match / power.clamp_min(1e-6)).clamp(*_GAIN)
    squares = (energy - 2 * gain * match + gain.square() * power).sum(2)
    return (squares / (3 * area)).clamp_min(0).sqrt(), gain


def _around(kind: str, pose: Float[Tensor, "b 3"]) -> Drawings:
    """Drawings at the poses next to `pose`; those of image i come in one block."""
    return draw(kind, (pose[:, None] + neighbours()).flatten(0, 1))


def _refine(
    drawings: Drawings, pixels: Float[Tensor, "b 3 32 32"], colours: Float[Tensor, "b m 3"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    count, flat = len(pixels), pixels.flatten(2)
    mix, weight, alpha = (
        table.unflatten(0, (count, -1)) for table in (drawings.mix, drawings.weight, drawings.alpha)
    )
    inside = weight[:, :, None] * mix
    seen = torch.einsum("btmp,bcp->btmc", inside, flat)
    energy = torch.einsum("btp,bcp->btc", weight, flat.square())
    gram = torch.einsum("btmp,btnp->btmn", inside, mix)
    error, gain = _errors(seen, energy, gram, weight.sum(2), colours)
    least, where = error.min(dim=1)
    rows = torch.arange(count)
    fill = colours * gain[rows, where][:, None]
    canvas = torch.einsum("bmp,bmc->bcp", mix[rows, where], fill)
    share = weight[rows, where] / weight[rows, where].sum(1, keepdim=True)
    mean = (share[:, None] * canvas).sum(2, keepdim=True)
    contrast = (share[:, None] * (canvas - mean).square()).sum(2).mean(1).sqrt()
    overlap = outline_overlap(
        pixels, canvas.unflatten(2, (SIDE, SIDE)), alpha[rows, where].unflatten(1, (SIDE, SIDE))
    )
    return least, contrast, overlap
