"""Heights and widths of images: one number for a square, two for any frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ldmlab.core.ranges import Range, positive_int

ImageSize = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""


def _holds(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return all(map(positive_int.holds, value)) if pair else positive_int.holds(value)


any_image_size = Range("a whole number above 0, or two of them: [height, width]", _holds)


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Both sides of a frame, in pixels."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def plain_size(size: int | Sequence[int]) -> ImageSize:
    """The one way to write a size: a number where the frame is a square."""
    height, width = height_and_width(size)
    return height if height == width else (height, width)


def divides(size: int | Sequence[int], by: int) -> bool:
    """Whether both sides are multiples of a number."""
    return not any(side % by for side in height_and_width(size))


def shown_size(size: int | Sequence[int]) -> str:
    """A size as a user types it, `256` or `[256,384]`."""
    height, width = height_and_width(size)
    return str(height) if height == width else f"[{height},{width}]"
