"""What the numbers of a picture's file mean: from a file's values to [-1, 1] and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import one_of, rising_pair

Bits = Literal[8, 16, "float"]
"""How samples are written: whole numbers of so many bits, or 32-bit floats."""

ValueRange = tuple[tuple[float, float], ...]
"""The values that become -1 and 1: a pair for all channels, or one for each."""

SET_A_RANGE = (
    "set data.value_range=[min,max], data.value_window=[centre,width] or "
    "data.value_percentile=[low,high]"
)


def as_value_range(pairs: Iterable[Iterable[float]] | None) -> ValueRange | None:
    """A range out of plain lists, as JSON has them."""
    if pairs is None:
        return None
    return tuple((float(low), float(high)) for low, high in pairs)


@dataclass(frozen=True)
class PixelValues:
    """How values are written, and which of them the model sees.

    Attributes:
        bits: Of the values in files of samples: 8, 16 or `float`.
        value_range: The values that become -1 and 1; None for 0 and the largest of the type.

    Raises:
        ArgumentError: `bits` is another word, or a range does not rise.
        ValueError: A range reaches beyond what the bits hold.
    """

    bits: Bits = 8
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        one_of(Bits)(bits=self.bits)
        rising_pair.many(1).or_none(value_range=self.value_range)
        if self.value_range is None:
            return
        pairs = as_value_range(self.value_range)
        object.__setattr__(self, "value_range", pairs)
        if self.bits == "float":
            return
        for low, high in pairs or ():
            if low < 0 or high > self.largest:
                raise ValueError(
                    f"values from {low:g} to {high:g} do not fit into data.bits={self.bits}, which "
                    f"hold 0 to {self.largest}: set data.bits=float, or another range"
                )

    def told(self) -> str:
        """Both in words."""
        kind = "floats" if self.bits == "float" else f"{self.bits} bits"
        if self.value_range is None:
            return f"{kind} from 0 to the largest of each file's type"
        ranges = [f"{low:g} to {high:g}" for low, high in self.value_range]
        each = " (of each channel)" if len(ranges) > 1 else ""
        return f"{kind} from {', '.join(ranges)}{each}"

    @property
    def largest(self) -> int:
        """The largest value of whole numbers."""
        return 2**self.bits - 1 if isinstance(self.bits, int) else 1

    def to_unit(self, values: Float[Tensor, "c h w"], full: float | None) -> Float[Tensor, "c h w"]:
        """Values of a file in [-1, 1]; what lies outside of the range is clipped.

        Args:
            values: As the file holds them.
            full: The largest value of the file's type; None where that says nothing.

        Raises:
            ValueError: No range is known.
        """
        low, span = self._bounds(full, len(values))
        return values.sub(low.float()).mul_((2 / span).float()).sub_(1).clamp_(-1, 1)

    def clips(self, values: Float[Tensor, "c h w"]) -> bool:
        """Whether a value of a file lies outside of the range."""
        if self.value_range is None:
            return False
        low, span = self._bounds(None, len(values))
        return bool(((values < low) | (values > low + span)).any())

    def from_unit(self, image: Float[Tensor, "c h w"]) -> np.ndarray:
        """The values of an image in [-1, 1], which is clipped to it: uint8, uint16 or float32."""
        largest = None if self.value_range is not None else float(self.largest)
        low, span = self._bounds(largest, len(image))
        unit = image.detach().cpu().double().clamp(-1, 1)
        values = (unit.add(1).mul(span / 2) + low).numpy()
        if self.bits == "float":
            return values.astype(np.float32)
        return np.rint(values).astype(np.uint8 if self.bits == 8 else np.uint16)

    def _bounds(self, full: float | None, channels: int) -> tuple[Tensor, Tensor]:
        pairs: Sequence[tuple[float, float]] | None = self.value_range
        if pairs is None:
            if full is None:
                raise ValueError(f"holds values of no known range: {SET_A_RANGE}")
            pairs = ((0.0, full),)
        if len(pairs) not in (1, channels):
            raise ValueError(f"has {channels} channels, and {len(pairs)} ranges are known")
        low, high = torch.tensor(pairs, dtype=torch.float64).unbind(1)
        return low[:, None, None], (high - low)[:, None, None]
