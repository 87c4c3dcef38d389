"""Image transform: a square crop, resized and randomly flipped, with mask and caption alike."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.core.ranges import natural, one_of, positive_int, whole_in
from ldmlab.data.images.decode import WHITE, BrokenFileError, decode_image
from ldmlab.data.images.source import Sample

Crop = Literal["center", "random"]
FlipCaptions = Literal["keep", "swap"]

_ENLARGED = 8  # times: what is smaller shows nothing
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """A sample as the model sees it."""

    image: UInt8[Tensor, "3 s s"]
    mask: Int[Tensor, "s s"] | None
    caption: str | None


class Transform:
    """Decodes a sample, cuts a square out of it and resizes that, its mask alike.

    The square is what remains of the image when its shorter side is resized to `resized` pixels
    and a crop of `image_size` is taken; image bicubic with antialiasing, mask nearest.

    Args:
        image_size: Side of the result in pixels.
        resized: Shorter side of the image before the crop; `image_size` by default.
        crop: `center`, or `random` for training.
        flip: Mirror half of the training images.
        flip_captions: What becomes of a training image whose caption says left or right: `keep`
            never mirrors it, `swap` exchanges the words with the sides.
        background: Red, green and blue behind transparent pixels, 0 to 255.
        mirrored_labels: Pairs of mask labels that change places in a mirror (left and right eye).

    Raises:
        ArgumentError: A number is out of its range, or a word is unknown.
        UserError: The crop is larger than the resized image.
    """

    def __init__(
        self,
        image_size: int,
        resized: int | None = None,
        crop: Crop = "center",
        flip: bool = False,
        flip_captions: FlipCaptions = "keep",
        background: Sequence[int] = WHITE,
        mirrored_labels: Sequence[Sequence[int]] = (),
    ) -> None:
        positive_int(image_size=image_size)
        positive_int.or_none(resized=resized)
        one_of(Crop)(crop=crop)
        one_of(FlipCaptions)(flip_captions=flip_captions)
        whole_in(0, 255).many(3, 3)(background=background)
        natural.many(2, 2).many()(mirrored_labels=mirrored_labels)
        self.image_size = image_size
        self.resized = image_size if resized is None else resized
        if self.resized < image_size:
            raise UserError(
                f"data.resized={resized} is smaller than data.image_size={image_size}, which is "
                "cut out of it"
            )
        self.crop, self.flip, self.flip_captions = crop, flip, flip_captions
        self.background = tuple(background)
        self.mirrored_labels = [(a, b) for a, b in mirrored_labels]

    @property
    def varies(self) -> bool:
        """Whether an image looks different at each visit."""
        return self.flip or self.crop == "random"

    def __call__(self, sample: Sample, seed: int | None = None) -> Example:
        """Decode and cut.

        Args:
            sample: What to look at.
            seed: Decides crop and, if odd, to mirror; None takes the centre, unmirrored.

        Raises:
            BrokenFileError: The image or its mask cannot be used, or the image is smaller than an
                eighth of what it would be enlarged to.
        """
        image, mask = self._decode(sample)
        caption = sample.caption
        if seed is not None and sample.further:
            texts = (sample.caption, *sample.further)
            caption = texts[derive_seed("caption", seed) % len(texts)]
        across, down, mirror = 0.5, 0.5, False
        if seed is not None:
            if self.crop == "random":
                draw = random.Random(seed)
                across, down = draw.random(), draw.random()
            mirror = self.flip and seed % 2 == 1
        says_side = caption is not None and _SIDES.search(caption) is not None
        if says_side and self.flip_captions == "keep":
            mirror = False
        height, width = image.shape[1:]
        if min(height, width) * _ENLARGED < self.resized:
            raise BrokenFileError(
                f"has {width} x {height} pixels, too few to be enlarged to {self.resized}: leave "
                "it out, or choose a smaller data.image_size"
            )
        side = max(1, round(min(height, width) * self.image_size / self.resized))
        top, left = round((height - side) * down), round((width - side) * across)
        square = image[:, top : top + side, left : left + side]
        if side != self.image_size:
            square = _resize(square, self.image_size)
        if mask is not None:
            mask = _resize_labels(mask[top : top + side, left : left + side], self.image_size)
        if mirror:
            square = square.flip(-1)
            mask = None if mask is None else self._mirror(mask)
            caption = _SIDES.sub(_other_side, caption) if says_side and caption else caption
        return Example(square, mask, caption)

    def cuts(self, size: tuple[int, int]) -> list[str]:
        """What is done to an image of some width and height, where it loses by it, in words."""
        found = []
        if size[0] != size[1]:
            found.append("cut to a square")
        if min(size) < self.resized:
            found.append(f"enlarged to {self.resized} pixels")
        return found

    def _decode(self, sample: Sample) -> tuple[Tensor, Tensor | None]:
        """The whole image and mask."""
        if sample.mask is None:
            return decode_image(sample.image, self.resized, self.background), None
        image = decode_image(sample.image, None, self.background)
        mask = sample.mask.decode()
        if mask.shape != image.shape[1:]:
            raise BrokenFileError(
                f"has {image.shape[2]} x {image.shape[1]} pixels, and its mask "
                f"{mask.shape[1]} x {mask.shape[0]}"
            )
        return image, mask

    def _mirror(self, mask: Int[Tensor, "s s"]) -> Int[Tensor, "s s"]:
        mask = mask.flip(-1)
        swapped = mask.clone()
        for a, b in self.mirrored_labels:
            swapped[mask == a] = b
            swapped[mask == b] = a
        return swapped


def _resize(image: UInt8[Tensor, "3 h w"], size: int) -> UInt8[Tensor, "3 s s"]:
    batch = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(batch, (size, size), mode="bicubic", antialias=True)[0]


def _resize_labels(mask: Int[Tensor, "h w"], size: int) -> Int[Tensor, "s s"]:
    # Labels up to 2**24 pass through float32 unchanged; interpolation takes no integers.
    return F.interpolate(mask[None, None].float(), (size, size), mode="nearest-exact")[0, 0].long()


def _other_side(match: re.Match[str]) -> str:
    word = match.group()
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
