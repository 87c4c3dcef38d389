"""Corrupted landscapes that imitate generators' errors: soft, smeared, blob-like, scrambled.

Mild changes keep every label; the other functions return images that no scene looks like. All of
them take images in [-1, 1] and a generator, and answer images in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ldmlab.core.tensors import to_unit_range
from ldmlab.data.vistas.materials import MASK_LABELS
from ldmlab.data.vistas.render import render
from ldmlab.data.vistas.scene import Scenes

Images = Float[Tensor, "b 3 h w"]
_FIRST_OBJECT = MASK_LABELS.index("house")


def pictures(scenes: Scenes, size: int = 32) -> tuple[Images, Int[Tensor, "b h w"]]:
    """Rendered scenes as images in [-1, 1] and masks."""
    images, masks = render(scenes, size)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return to_unit_range(pixels), torch.from_numpy(masks).long()


def _uniform(rng: Generator, count: int, low: float, high: float) -> Float[Tensor, " b"]:
    return low + (high - low) * torch.rand(count, generator=rng)


def blur(images: Images, sigma: Float[Tensor, " b"]) -> Images:
    """Gaussian blur with one standard deviation per image, in pixels."""
    steps = torch.arange(images.shape[-1], dtype=images.dtype)
    far = (steps[:, None] - steps) / sigma.clamp_min(0.05)[:, None, None]
    kernel = torch.exp(-0.5 * far.square())
    kernel = (kernel / kernel.sum(-1, keepdim=True))[:, None]
    return kernel @ images @ kernel.mT


def mild(images: Images, rng: Generator) -> Images:
    """What a good autoencoder loses: up to 0.75 pixels of blur, some light, some grain; ~29 dB."""
    count = len(images)

    def each(low: float, high: float) -> Tensor:
        return _uniform(rng, count, low, high)[:, None, None, None]

    soft = blur(images, _uniform(rng, count, 0.0, 0.75))
    white = torch.randn(images.shape, generator=rng)
    grain = blur(torch.randn(images.shape, generator=rng), torch.full((count,), 0.8))
    noisy = soft * each(0.96, 1.04) + each(-0.04, 0.04)
    return (noisy + each(0.0, 0.05) * white + each(0.0, 0.2) * grain).clamp(-1, 1)


def strong_blur(images: Images, rng: Generator) -> Images:
    """Blur of 1.8 to 4 pixels."""
    return blur(images, _uniform(rng, len(images), 1.8, 4.0))


def scrambled(images: Images, rng: Generator) -> Images:
    """Square patches of a quarter of the width in random order."""
    side = images.shape[-1] // 4
    patches = torch.nn.functional.unfold(images, side, stride=side)
    order = torch.rand(len(images), 1, patches.shape[-1], generator=rng).argsort(-1)
    moved = patches.gather(2, order.expand_as(patches))
    return torch.nn.functional.fold(moved, images.shape[-2:], side, stride=side)


def mixed(images: Images, rng: Generator) -> Images:
    """Two landscapes at once, at 35 to 65 percent each."""
    share = _uniform(rng, len(images), 0.35, 0.65)[:, None, None, None]
    return share * images + (1 - share) * images.roll(1, 0)


def noise(images: Images, rng: Generator) -> Images:
    """Noise of random grain around a random fill; nothing of the landscape is left."""
    count = len(images)
    grain = blur(torch.randn(images.shape, generator=rng), _uniform(rng, count, 0.0, 5.0))
    grain = grain / grain.std((1, 2, 3), keepdim=True)
    strength = _uniform(rng, count, 0.1, 0.6)[:, None, None, None]
    return (flat(images, rng) + strength * grain).clamp(-1, 1)


def flat(images: Images, rng: Generator) -> Images:
    """One colour at the top, one at the bottom, nothing else."""
    top, bottom = (torch.rand(2, len(images), 3, 1, 1, generator=rng) * 2 - 1).unbind()
    share = torch.linspace(0, 1, images.shape[-2])[:, None].expand(images.shape[-2:])
    return top + (bottom - top) * share


RUINS: tuple[Callable[[Images, Generator], Images], ...] = (
    strong_blur,
    scrambled,
    mixed,
    noise,
    flat,
)
"""Changes after which an image is no landscape."""


def blob_objects(scenes: Scenes, rng: Generator) -> Images:
    """Landscapes in which a coloured ellipse stands where the object should; it needs objects."""
    images, masks = pictures(scenes)
    empty, _ = pictures(_change_kind(scenes, np.zeros_like(scenes.object)))
    inside = (masks >= _FIRST_OBJECT).float()
    weight = inside / inside.sum((1, 2), keepdim=True).clamp_min(1)
    steps = torch.arange(images.shape[-1], dtype=torch.float32)
    reach = torch.zeros_like(inside)
    for position in (steps[None, None, :], steps[None, :, None]):
        centre = (weight * position).sum((1, 2), keepdim=True)
        spread = (weight * (position - centre).square()).sum((1, 2), keepdim=True).sqrt()
        radius = 2 * spread * _uniform(rng, len(images), 0.8, 1.2)[:, None, None] + 0.5
        reach = reach + ((position - centre) / radius).square()
    edge = _uniform(rng, len(images), 2.0, 10.0)[:, None, None]
    alpha = torch.sigmoid(edge * (1 - reach))[:, None]
    colour = (images * weight[:, None]).sum((2, 3), keepdim=True)
    vivid = _uniform(rng, len(images), 1.0, 1.4)[:, None, None, None]
    return (alpha * colour * vivid + (1 - alpha) * empty).clamp(-1, 1)


def smeared_objects(scenes: Scenes, rng: Generator) -> Images:
    """Sharp landscapes in which the object alone is blurred by 1.6 to 3 pixels."""
    images, masks = pictures(scenes)
    near = (masks >= _FIRST_OBJECT).float()[:, None]
    near = torch.nn.functional.max_pool2d(near, 5, stride=1, padding=2)
    soft = blur(images, _uniform(rng, len(images), 1.6, 3.0))
    return near * soft + (1 - near) * images


def merged_objects(scenes: Scenes, rng: Generator) -> Images:
    """Landscapes whose object is half one kind, half another."""
    turn = torch.randint(1, 3, (len(scenes),), generator=rng).numpy()
    other = _change_kind(scenes, (scenes.object - 1 + turn) % 3 + 1)
    share = _uniform(rng, len(scenes), 0.35, 0.65)[:, None, None, None]
    return share * pictures(scenes)[0] + (1 - share) * pictures(other)[0]


def shuffled_objects(scenes: Scenes, rng: Generator) -> Images:
    """Landscapes in which the pieces of the object's surroundings, 4 x 4 pixels, changed places."""
    images, masks = pictures(scenes)
    near = torch.nn.functional.max_pool2d((masks >= _FIRST_OBJECT).float()[:, None], 4)
    touched = near.flatten(1) > 0
    patches = torch.nn.functional.unfold(images, 4, stride=4)
    # Sorting random keys among the touched patches permutes these and leaves the others in place.
    places = torch.arange(touched.shape[1]).expand_as(touched)
    keys = torch.where(touched, torch.rand(touched.shape, generator=rng), 2.0)
    slots = torch.where(touched, 0.0, 2.0)
    source = torch.argsort(keys, dim=1, stable=True)
    target = torch.argsort(slots, dim=1, stable=True)
    order = torch.empty_like(places).scatter_(1, target, source)
    moved = patches.gather(2, order[:, None].expand_as(patches))
    return torch.nn.functional.fold(moved, images.shape[-2:], 4, stride=4)


BROKEN_OBJECTS: tuple[Callable[[Scenes, Generator], Images], ...] = (
    blob_objects,
    smeared_objects,
    merged_objects,
    shuffled_objects,
)
"""Landscapes that are right but for their object, which nobody could name."""


def _change_kind(scenes: Scenes, kind: np.ndarray) -> Scenes:
    return replace(scenes, object=kind)
