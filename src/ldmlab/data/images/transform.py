"""Image transform: into the frame, and randomly flipped, with mask and caption alike."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.image_size import any_image_size, height_and_width, plain_size, shown_size
from ldmlab.core.random import derive_seed
from ldmlab.core.ranges import natural, one_of, positive_int, whole_in
from ldmlab.core.records import UNLABELLED
from ldmlab.data.images.decode import WHITE, BrokenFileError
from ldmlab.data.images.frame import Box, Frame, ResizeMode
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.images.source import Sample

Crop = Literal["center", "random"]
FlipCaptions = Literal["keep", "swap"]

_ENLARGED = 8  # times: what is smaller shows nothing
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """A sample as the model sees it; its image in bytes, or in [-1, 1]."""

    image: UInt8[Tensor, "3 h w"] | Float[Tensor, "c h w"]
    mask: Int[Tensor, "h w"] | None
    caption: str | None


class Transform:
    """Decodes a sample and brings it into a frame, its mask alike.

    `crop` cuts out what fills the frame: of a square frame, what remains of the image when its
    shorter side is resized to `resized` pixels and a crop of `image_size` is taken. `pad` shows the
    whole image, with the background beside it, and `squash` the whole image in other proportions.
    Images are resized bicubically with antialiasing, masks to the nearest; padding has no label.

    Args:
        image_size: Side of the result in pixels, or height and width.
        resized: Shorter side of the frame before the crop; that of `image_size` by default.
        crop: `center`, or `random` for training.
        flip: Mirror half of the training images.
        flip_captions: What becomes of a training image whose caption says left or right: `keep`
            never mirrors it, `swap` exchanges the words with the sides.
        background: Red, green and blue behind transparent pixels and in padding, 0 to 255.
        mirrored_labels: Pairs of mask labels that change places in a mirror (left and right eye).
        resize_mode: How an image of other proportions comes into the frame: `crop`, `pad` or
            `squash`.
        pixels: Channels and values; 8 bits of red, green and blue by default. In padding of
            others is their lowest value.

    Raises:
        ArgumentError: A number is out of its range, or a word is unknown.
        UserError: The crop is larger than the resized image, or nothing is cropped.
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        resized: int | None = None,
        crop: Crop = "center",
        flip: bool = False,
        flip_captions: FlipCaptions = "keep",
        background: Sequence[int] = WHITE,
        mirrored_labels: Sequence[Sequence[int]] = (),
        resize_mode: ResizeMode = "crop",
        pixels: Pixels | None = None,
    ) -> None:
        any_image_size(image_size=image_size)
        positive_int.or_none(resized=resized)
        one_of(Crop)(crop=crop)
        one_of(FlipCaptions)(flip_captions=flip_captions)
        whole_in(0, 255).many(3, 3)(background=background)
        natural.many(2, 2).many()(mirrored_labels=mirrored_labels)
        one_of(ResizeMode)(resize_mode=resize_mode)
        self.image_size = plain_size(image_size)
        height, width = height_and_width(image_size)
        shorter = min(height, width)
        if resized is not None and resized < shorter:
            raise UserError(
                f"data.resized={resized} is smaller than data.image_size={shown_size(image_size)}, "
                "which is cut out of it"
            )
        if resize_mode != "crop" and (crop != "center" or resized not in (None, shorter)):
            key = "data.crop=center" if crop != "center" else "data.resized=null"
            raise UserError(f"data.resize_mode={resize_mode} crops nothing: set {key}")
        self.frame = Frame(height, width, resized or shorter, resize_mode)
        self.crop, self.flip, self.flip_captions = crop, flip, flip_captions
        self.background = tuple(background)
        self.pixels = Pixels() if pixels is None else pixels
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
        if self.frame.zoom(height, width) > _ENLARGED:
            target = self.frame.resized if isinstance(self.image_size, int) else self.image_size
            raise BrokenFileError(
                f"has {width} x {height} pixels, too few to be enlarged to {shown_size(target)}: "
                "leave it out, or choose a smaller data.image_size"
            )
        seen, filled = (
            self.frame.seen(height, width, down, across),
            self.frame.filled(height, width),
        )
        image = self._framed(_resize(_cut(image, seen), filled), filled)
        if mask is not None:
            mask = framed_labels(mask, self.frame, seen)
        if mirror:
            image = image.flip(-1)
            mask = None if mask is None else self._mirror(mask)
            caption = _SIDES.sub(_other_side, caption) if says_side and caption else caption
        return Example(image, mask, caption)

    def cuts(self, size: tuple[int, int]) -> list[str]:
        """What is done to an image of some width and height, where it loses by it, in words."""
        return self.frame.changes(size[1], size[0])

    def _framed(self, image: Shaped[Tensor, "c h w"], filled: Box) -> Shaped[Tensor, "c H W"]:
        """The image in its frame, the background beside it."""
        colour = self.background if self.pixels.plain else (-1,) * len(image)
        behind = torch.tensor(colour, dtype=image.dtype)[:, None, None]
        return _padded(image, filled, behind.expand(-1, self.frame.height, self.frame.width))

    def _decode(self, sample: Sample) -> tuple[Tensor, Tensor | None]:
        """The whole image and mask."""
        if sample.mask is None:
            return self.pixels.decode(sample.image, self.frame.needed, self.background), None
        image = self.pixels.decode(sample.image, None, self.background)
        mask = sample.mask.decode()
        if mask.shape != image.shape[1:]:
            raise BrokenFileError(
                f"has {image.shape[2]} x {image.shape[1]} pixels, and its mask "
                f"{mask.shape[1]} x {mask.shape[0]}"
            )
        return image, mask

    def _mirror(self, mask: Int[Tensor, "h w"]) -> Int[Tensor, "h w"]:
        mask = mask.flip(-1)
        swapped = mask.clone()
        for a, b in self.mirrored_labels:
            swapped[mask == a] = b
            swapped[mask == b] = a
        return swapped


def framed_labels(mask: Int[Tensor, "h w"], frame: Frame, seen: Box) -> Int[Tensor, "H W"]:
    """What is seen of a label map, to the nearest in its frame; without a label beside it."""
    filled = frame.filled(*mask.shape)
    mask = _resize_labels(_cut(mask, seen), filled)
    return _padded(mask, filled, mask.new_full((frame.height, frame.width), UNLABELLED))


def _cut(pixels: Shaped[Tensor, "*c h w"], box: Box) -> Shaped[Tensor, "*c H W"]:
    rows = slice(box.top, box.top + box.height)
    return pixels[..., rows, box.left : box.left + box.width]


def _resize(image: Shaped[Tensor, "c h w"], box: Box) -> Shaped[Tensor, "c H W"]:
    size = (box.height, box.width)
    if image.shape[1:] == size:
        return image
    batch = image[None].contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(batch, size, mode="bicubic", antialias=True)[0]
    return resized.clamp_(-1, 1) if resized.is_floating_point() else resized


def _resize_labels(mask: Int[Tensor, "h w"], box: Box) -> Int[Tensor, "H W"]:
    size = (box.height, box.width)
    # Labels up to 2**24 pass through float32 unchanged; interpolation takes no integers.
    return F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].long()


def _padded(
    pixels: Shaped[Tensor, "*c h w"], box: Box, behind: Shaped[Tensor, "*c H W"]
) -> Shaped[Tensor, "*c H W"]:
    """Pixels at their place in a frame, where they do not fill it."""
    if pixels.shape == behind.shape:
        return pixels
    whole = behind.clone()
    _cut(whole, box).copy_(pixels)
    return whole


def _other_side(match: re.Match[str]) -> str:
    word = match.group()
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
