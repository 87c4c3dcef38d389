"""How images of any height and width come into a frame of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ResizeMode = Literal["crop", "pad", "squash"]

_CHANGES = {"crop": "cut", "pad": "padded", "squash": "squashed"}


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Frame:
    """The size that every image gets, and the way it does.

    Attributes:
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        resized: Shorter side of the frame before the crop; above it, less of an image is seen.
        mode: `crop` cuts out what fills the frame, `pad` shows all and fills what is left over,
            `squash` shows all in other proportions.
    """

    height: int
    width: int
    resized: int
    mode: ResizeMode

    def seen(self, height: int, width: int, down: float = 0.5, across: float = 0.5) -> Box:
        """What of an image is seen.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.
            down: Where a crop lies, from 0 at the top to 1 at the bottom.
            across: Likewise, from left to right.
        """
        if self.mode != "crop":
            return Box(0, 0, height, width)
        # Whole numbers up to the one division, so that a square frame rounds as it always did.
        wide = height * self.width <= width * self.height
        side, frame = (height, self.height) if wide else (width, self.width)
        shorter = min(self.height, self.width)
        rows, columns = (
            max(1, round(length * side * shorter / (frame * self.resized)))
            for length in (self.height, self.width)
        )
        rows, columns = min(rows, height), min(columns, width)
        return Box(round((height - rows) * down), round((width - columns) * across), rows, columns)

    def filled(self, height: int, width: int) -> Box:
        """Where in the frame an image lies; all of it but under `pad`."""
        if self.mode != "pad":
            return Box(0, 0, self.height, self.width)
        if height * self.width <= width * self.height:
            rows, columns = max(1, round(height * self.width / width)), self.width
        else:
            rows, columns = self.height, max(1, round(width * self.height / height))
        return Box((self.height - rows) // 2, (self.width - columns) // 2, rows, columns)

    def zoom(self, height: int, width: int) -> float:
        """How many pixels of the frame one of an image becomes, at most, along a side."""
        if self.mode == "crop":
            larger = max(self.height / height, self.width / width)
            return larger * self.resized / min(self.height, self.width)
        inner = self.filled(height, width)
        return max(inner.height / height, inner.width / width)

    @property
    def needed(self) -> int:
        """Shorter side that an image may be decoded at and loses nothing."""
        longer, shorter = max(self.height, self.width), min(self.height, self.width)
        return -(-longer * self.resized // shorter)

    def changes(self, height: int, width: int) -> list[str]:
        """What an image of a size loses on its way into the frame, in words."""
        found = []
        square = self.height == self.width
        if height * self.width != width * self.height:
            shape = "a square" if square else f"{self.width} x {self.height}"
            found.append(f"{_CHANGES[self.mode]} to {shape}")
        if self.zoom(height, width) > 1:
            target = self.resized if square else f"{self.width} x {self.height}"
            found.append(f"enlarged to {target} pixels")
        return found
