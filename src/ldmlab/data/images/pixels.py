"""From an image file to the channels and values that the model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.pixel_values import SET_A_RANGE, Bits, PixelValues, ValueRange
from ldmlab.core.ranges import Range, finite, one_of, rising_pair, whole_in
from ldmlab.core.records import DataSpec
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.images.decode import (
    WHITE,
    BrokenFileError,
    conversions,
    decode_image,
    image_size,
)
from ldmlab.data.images.values import MAX_CHANNELS, Pages, Values, read_values

RULES = ("value_range", "value_window", "value_percentile")
_LUMINANCE = (0.299, 0.587, 0.114)  # of ITU-R BT.601, as Pillow has it

_a_window = Range(
    "a list of two numbers, the second above 0",
    lambda x: finite.many(2, 2).holds(x) and x[1] > 0,
)
_percentiles = Range(
    "a list of two numbers from 0 to 100, the first below the second",
    lambda x: rising_pair.holds(x) and x[0] >= 0 and x[1] <= 100,
)


@dataclass(frozen=True)
class Pixels:
    """How many channels an image has, and which of its values become -1 and 1.

    By default the values 0 and the largest of a file's type do.

    Attributes:
        channels: Of what the model sees, 1 to 16. Grey becomes three equal channels, colours become
            their luminance; other numbers than the files' are refused.
        bits: How samples are written: 8, 16 or `float`.
        value_range: The values that become -1 and 1; those outside are clipped.
        value_window: Centre and width of those values, as radiologists say it.
        value_percentile: Two percentiles of each channel's values in training images, likewise.
        pages: Of a TIFF or DICOM file: `first`, or `channels` for its pages as channels.
        measured: What `value_percentile` came to, a pair a channel; None while that is not known.

    Raises:
        ArgumentError: A number is out of its range, or a word is unknown.
        UserError: Several rules are given, none for floats, or one that the bits do not hold.
    """

    channels: int = 3
    bits: Bits = 8
    value_range: Sequence[float] | None = None
    value_window: Sequence[float] | None = None
    value_percentile: Sequence[float] | None = None
    pages: Pages = "first"
    measured: ValueRange | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        whole_in(1, MAX_CHANNELS)(channels=self.channels)
        one_of(Bits)(bits=self.bits)
        one_of(Pages)(pages=self.pages)
        rising_pair.or_none(value_range=self.value_range)
        _a_window.or_none(value_window=self.value_window)
        _percentiles.or_none(value_percentile=self.value_percentile)
        rising_pair.many(1).or_none(measured=self.measured)
        rules = [key for key in RULES if getattr(self, key) is not None]
        if len(rules) > 1:
            raise UserError(f"data.{rules[0]} and data.{rules[1]} say the same thing: give one")
        if self.bits == "float" and not rules and self.measured is None:
            raise UserError(f"data.bits=float tells no range of values: {SET_A_RANGE}")
        self.values  # noqa: B018 (a range that does not fit the bits is refused now)

    @classmethod
    def of(cls, spec: DataSpec) -> Pixels:
        """What a model's data was read with, for further images of the kind."""
        known = spec.values.value_range
        return cls(spec.image_channels, spec.bits, measured=known)

    @property
    def values(self) -> PixelValues:
        """Bits and range; without a range while percentiles are not measured."""
        pairs = self.measured
        if self.value_range is not None:
            pairs = ((self.value_range[0], self.value_range[1]),)
        elif self.value_window is not None:
            centre, width = self.value_window
            pairs = ((centre - width / 2, centre + width / 2),)
        try:
            return PixelValues(self.bits, pairs)
        except ValueError as error:
            raise UserError(str(error)) from error

    @property
    def plain(self) -> bool:
        """Whether it is the usual thing: the bytes of red, green and blue."""
        return self.channels == 3 and self.bits == 8 and self.pages == "first" and not self._ruled

    @property
    def _ruled(self) -> bool:
        rules = (self.value_range, self.value_window, self.value_percentile, self.measured)
        return any(rule is not None for rule in rules)

    def with_range(self, measured: ValueRange | None) -> Pixels:
        """The same where the percentiles are known."""
        return replace(self, measured=measured) if self.value_percentile is not None else self

    def decode(
        self, data: bytes, min_side: int | None = None, background: Sequence[int] = WHITE
    ) -> UInt8[Tensor, "3 h w"] | Float[Tensor, "c h w"]:
        """An image: bytes where it is `plain`, else floats in [-1, 1].

        Args:
            data: A whole file.
            min_side: What it will be shrunk to; see `decode_image`.
            background: Red, green and blue behind transparent pixels, 0 to 255.

        Raises:
            BrokenFileError: It cannot be used.
        """
        if self.plain:
            return decode_image(data, min_side, background)
        found = read_values(data, self.channels, self.pages)
        values = self._fitted(found, background)
        if self.value_percentile is not None and self.measured is None:
            raise UserError(
                "data.value_percentile is measured on training images, and none were looked at"
            )
        try:
            return self.values.to_unit(values, found.full)
        except ValueError as error:
            raise BrokenFileError(str(error)) from error

    def stored(self, data: bytes, background: Sequence[int] = WHITE) -> Float[Tensor, "c h w"]:
        """The values of an image in its file's units, with the channels that are wanted.

        Raises:
            BrokenFileError: It cannot be used.
        """
        return self._fitted(read_values(data, self.channels, self.pages), background)

    def size(self, data: bytes) -> tuple[int, int]:
        """Width and height of the upright image, in pixels.

        Raises:
            BrokenFileError: It is no image.
        """
        if self.plain:
            return image_size(data)
        _, height, width = read_values(data, self.channels, self.pages).array.shape
        return width, height

    def conversions(self, data: bytes, background: Sequence[int] = WHITE) -> list[str]:
        """What is changed about a file's values, each in a few words.

        Raises:
            BrokenFileError: It is no image.
        """
        if self.plain:
            return conversions(data)
        found = read_values(data, self.channels, self.pages)
        changes = []
        count = len(found.array)
        if found.alpha and count != self.channels:
            changes.append("transparency to the background's colour")
            count -= 1
        if count == 1 < self.channels:
            changes.append("grey to three equal channels")
        elif count == 3 > self.channels:
            changes.append("colours to grey")
        stored = found.array.dtype.itemsize * 8
        if self.bits != "float" and (found.array.dtype.kind == "f" or stored > self.bits):
            changes.append(f"{found.array.dtype}, of which samples keep {self.bits} bits")
        if self.values.clips(self._fitted(found, background)):
            changes.append("values out of the range clipped")
        if found.pages > 1 and self.pages == "first":
            changes.append("all frames but the first left out")
        return changes

    def _fitted(self, found: Values, background: Sequence[int]) -> Float[Tensor, "c h w"]:
        """The values with as many channels as are wanted.

        Raises:
            BrokenFileError: There is no way to so many.
        """
        values = torch.from_numpy(np.ascontiguousarray(found.array, dtype=np.float32))
        if found.alpha and len(values) != self.channels:
            values = _over(values, found.full, background)
        if len(values) == self.channels:
            return values
        if (len(values), self.channels) == (1, 3):
            return values.repeat(3, 1, 1)
        if (len(values), self.channels) == (3, 1):
            weights: Any = values.new_tensor(_LUMINANCE)[:, None, None]
            return (values * weights).sum(0, keepdim=True)
        raise BrokenFileError(
            f"has {len(values)} channels, and data.channels={self.channels}: leave it out, or set "
            f"data.channels={len(values)}"
        )


def unit_range(pixels: UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"], out: Tensor) -> None:
    """Write bytes, or floats in [-1, 1], as floats in [-1, 1]."""
    if pixels.dtype == torch.uint8:
        to_unit_range(pixels, out=out)
    else:
        out.copy_(pixels)


def _over(
    values: Float[Tensor, "c h w"], full: float | None, background: Sequence[int]
) -> Float[Tensor, "c2 h w"]:
    """What is seen of transparent values in front of the background."""
    if full is None:
        raise BrokenFileError("is transparent, and its values have no known range")
    share = values[-1:] / full
    colours = values.new_tensor(background) * (full / 255)
    behind = colours if len(values) == 4 else (colours * values.new_tensor(_LUMINANCE)).sum()[None]
    return values[:-1] * share + behind[:, None, None] * (1 - share)
