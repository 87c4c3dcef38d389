"""What the parts of an experiment do with images that are not 8 bits of red, green and blue."""

from __future__ import annotations

from collections.abc import Iterator

from ldmlab.core.pixel_values import PixelValues
from ldmlab.core.records import DataSpec


def channel_notes(spec: DataSpec, perceptual: bool) -> Iterator[str]:
    """What parts do of their own with such images.

    Args:
        spec: What the models know of the data.
        perceptual: Whether stage one has a perceptual distance.

    Yields:
        A line for each such part; none for usual images.
    """
    channels, values = spec.image_channels, spec.values
    if channels == 1 and perceptual:
        yield "perceptual: the one channel is shown to the distance as red, green and blue"
    if channels not in (1, 3):
        shown = "the first three as red, green and blue" if channels > 3 else "the first as grey"
        yield f"pictures of {channels} channels: {shown}; samples have all, in a TIFF each"
    if values != PixelValues():
        yield f"values: {values.told()} become -1 to 1, and samples are written in them"
