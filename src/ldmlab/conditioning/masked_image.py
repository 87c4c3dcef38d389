"""Conditioning on the image outside of a hole: in-painting."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import Batch, Conditioning, DataSpec

Encode = Callable[[Tensor], Tensor]


class MaskedImage(Conditioner):
    """Latents of the masked image and the hole itself, concatenated to the input.

    Nothing is learned here (Rombach et al. 2022, section 4.5): the frozen codec of the diffusion
    model encodes. The hole is black to the codec, and +1 in a map that is -1 elsewhere.

    Args:
        latent_channels: Channels of the codec's latents.
        factor: How much smaller the latents are than the images, a side.
        encode: From images in [-1, 1] to latents.
    """

    input_key = "image"

    def __init__(self, latent_channels: int, factor: int, encode: Encode) -> None:
        super().__init__()
        positive_int(latent_channels=latent_channels, factor=factor)
        self.map_channels = latent_channels + 1
        self.factor = factor
        self.encode = encode

    @classmethod
    def for_data(
        cls, spec: DataSpec, factor: int, latent_channels: int, encode: Encode
    ) -> MaskedImage:
        """The conditioner for a data set and a codec."""
        return cls(latent_channels, factor, encode)

    def select(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """The image with a black hole wherever the mask is not 0, and the hole behind it.

        Raises:
            UserError: There are no images, or no masks.
        """
        image = require(batch.image, "image", "masked_image")
        mask = require(batch.mask, "mask of what to fill", "masked_image")
        hole = (mask != 0)[:, None].to(image.dtype)
        return torch.cat([image * (1 - hole) - hole, 2 * hole - 1], dim=1)

    def null(self, condition: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A hole as large as the image."""
        nothing = torch.full_like(condition, -1)
        nothing[:, -1] = 1
        return nothing

    def forward(self, condition: Float[Tensor, "b c h w"]) -> Conditioning:
        """Latents, then the hole in their size."""
        image, hole = condition[:, :-1], condition[:, -1:]
        latent = self.encode(image)
        small = F.interpolate(hole, latent.shape[-2:], mode="nearest")
        return Conditioning(maps=torch.cat([latent, small.to(latent.dtype)], dim=1))
