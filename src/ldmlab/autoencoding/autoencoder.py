"""The autoencoder: encoder, bottleneck, decoder."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.autoencoding.bottlenecks import Bottleneck, Latent
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import LatentMoments
from ldmlab.nn.autoencoder import Decoder, Encoder


class Autoencoder(nn.Module):
    """Images to latents and back.

    Args:
        bottleneck: What the encoder's features become.
        image_channels: Channels of the images.
        channels: Base width.
        channel_mult: Width of each level as a multiple of the base.
        num_res_blocks: Residual blocks a level of the encoder; the decoder has one more.
        attention_factors: Down-sampling factors whose levels attend.
        middle_attention: Attend at the coarsest level.
        patch: Side of the square of pixels folded into channels first.

    Attributes:
        factor: How much smaller the latents are than the images, a side.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        image_channels: int = 3,
        channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2,
        attention_factors: Sequence[int] = (),
        middle_attention: bool = True,
        patch: int = 1,
    ) -> None:
        super().__init__()
        positive_int(image_channels=image_channels)
        inner = bottleneck.inner_channels
        shape = (channels, channel_mult, num_res_blocks, attention_factors, middle_attention, patch)
        self.bottleneck = bottleneck
        self.image_channels = image_channels
        self.encoder = Encoder(image_channels, bottleneck.feature_channels, *shape)
        self.post_quant = nn.Conv2d(bottleneck.latent_channels, inner, 1)
        self.decoder = Decoder(inner, image_channels, *shape)
        self.factor = self.encoder.factor

    @property
    def last_layer(self) -> Tensor:
        """The decoder's last weights, where the adversarial weight is measured."""
        return self.decoder.conv_out.weight

    def encode(self, image: Float[Tensor, "b c h w"]) -> Latent:
        """Latents of images in [-1, 1]."""
        return self.bottleneck(self.encoder(image))

    def moments(self, image: Float[Tensor, "b c h w"]) -> LatentMoments:
        """What a diffusion model is trained on: the moments of `encode`, with less work."""
        return self.bottleneck.moments(self.encoder(image))

    def decode(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Images of latents; latents of a codebook are quantised first."""
        return self.decode_as_given(self.bottleneck.project(z))

    def decode_as_given(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Images of latents that the bottleneck gave, as in training."""
        return self.decoder(self.post_quant(z)).float()

    def reconstruct(self, latent: Latent) -> Float[Tensor, "b c h2 w2"]:
        """What is left of images that `encode` has encoded, without a draw."""
        return self.decode(latent.moments().mean)
