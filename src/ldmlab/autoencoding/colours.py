"""Images as the red, green and blue that networks of photographs look at."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

COLOUR_CHANNELS = (1, 3)
"""Numbers of channels that `as_colours` takes."""


def as_colours(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """The image; one of a single channel with that channel as red, green and blue.

    Raises:
        ValueError: There are other channels.
    """
    if image.shape[1] not in COLOUR_CHANNELS:
        raise ValueError(f"{image.shape[1]} channels are no colours")
    return image.expand(-1, 3, -1, -1)
