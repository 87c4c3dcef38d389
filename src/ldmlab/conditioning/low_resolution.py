"""Conditioning on the same image in low resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import Batch, Conditioning, DataSpec


class LowResolution(Conditioner):
    """Super-resolution: the image, shrunk to the latents' size, concatenated to the input.

    Nothing is learned here (Rombach et al. 2022, section 4.4).

    Args:
        image_channels: Channels of the images.
        factor: How much smaller the latents are than the images, a side.
    """

    input_key = "image"

    def __init__(self, image_channels: int, factor: int) -> None:
        super().__init__()
        positive_int(image_channels=image_channels, factor=factor)
        self.map_channels = image_channels
        self.factor = factor

    @classmethod
    def for_data(cls, spec: DataSpec, factor: int) -> LowResolution:
        """The conditioner for a data set and a codec's down-sampling factor."""
        return cls(spec.image_channels, factor)

    def select(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """Each image by bicubic interpolation without aliases, in [-1, 1].

        Raises:
            UserError: There are no images.
        """
        image = require(batch.image, "image", "low_resolution")
        size = (image.shape[-2] // self.factor, image.shape[-1] // self.factor)
        small = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
        return small.clamp(-1, 1)

    def null(self, condition: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Grey."""
        return torch.zeros_like(condition)

    def forward(self, condition: Float[Tensor, "b c h w"]) -> Conditioning:
        """The small images as maps."""
        return Conditioning(maps=condition)
