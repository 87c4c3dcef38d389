"""Encoder and decoder networks of the autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.core.ranges import multiple_of, natural, positive_int
from ldmlab.nn.attention import SpatialSelfAttention
from ldmlab.nn.blocks import Downsample, ResBlock, Upsample, group_norm

EPS = 1e-6


def _block(channels: int, out_channels: int) -> ResBlock:
    return ResBlock(channels, out_channels, eps=EPS, zero_init=False)


def _attention(channels: int) -> SpatialSelfAttention:
    return SpatialSelfAttention(channels, eps=EPS, zero_init=False)


def _middle(channels: int, attend: bool) -> nn.Sequential:
    attention = [_attention(channels)] if attend else []
    return nn.Sequential(_block(channels, channels), *attention, _block(channels, channels))


def _check(
    channels: int,
    channel_mult: Sequence[int],
    num_res_blocks: int,
    attention_factors: Sequence[int],
    patch: int,
) -> None:
    multiple_of(8)(channels=channels)
    positive_int.many(1)(channel_mult=channel_mult)
    natural(num_res_blocks=num_res_blocks)
    positive_int.many()(attention_factors=attention_factors)
    positive_int(patch=patch)


class Encoder(nn.Module):
    """Residual blocks from pixels down to the features of the bottleneck.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels that the bottleneck asks for.
        channels: Base width.
        channel_mult: Width of each level as a multiple of the base; a level but the last halves
            the size.
        num_res_blocks: Residual blocks a level.
        attention_factors: Down-sampling factors whose levels attend.
        middle_attention: Attend at the coarsest level.
        patch: Side of the square of pixels folded into channels first: a cheap start that
            halves (2) or quarters (4) the size before the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2,
        attention_factors: Sequence[int] = (),
        middle_attention: bool = True,
        patch: int = 1,
    ) -> None:
        super().__init__()
        _check(channels, channel_mult, num_res_blocks, attention_factors, patch)
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(patch),
            nn.Conv2d(in_channels * patch**2, channels, 3, padding=1),
        ]
        width, factor = channels, patch
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers.append(_block(width, mult * channels))
                width = mult * channels
                if factor in attention_factors:
                    layers.append(_attention(width))
            if level < len(channel_mult) - 1:
                layers.append(Downsample(width, padding="after"))
                factor *= 2
        self.factor = factor
        self.layers = nn.Sequential(*layers, _middle(width, middle_attention))
        self.norm_out = group_norm(width, EPS)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b z h2 w2"]:
        """Features of images in [-1, 1]."""
        return self.conv_out(F.silu(self.norm_out(self.layers(x))))


class Decoder(nn.Module):
    """Residual blocks from latents up to pixels; one more block a level than the encoder.

    Args:
        in_channels: Channels of the latents.
        out_channels: Channels of the images.
        channels: Base width.
        channel_mult: Width of each level, finest first, as a multiple of the base.
        num_res_blocks: Residual blocks a level, less one.
        attention_factors: Down-sampling factors whose levels attend.
        middle_attention: Attend at the coarsest level.
        patch: Side of the square of pixels that each last feature unfolds to.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2,
        attention_factors: Sequence[int] = (),
        middle_attention: bool = True,
        patch: int = 1,
    ) -> None:
        super().__init__()
        _check(channels, channel_mult, num_res_blocks, attention_factors, patch)
        width = channel_mult[-1] * channels
        factor = patch * 2 ** (len(channel_mult) - 1)
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 3, padding=1),
            _middle(width, middle_attention),
        ]
        for level, mult in reversed(list(enumerate(channel_mult))):
            for _ in range(num_res_blocks + 1):
                layers.append(_block(width, mult * channels))
                width = mult * channels
                if factor in attention_factors:
                    layers.append(_attention(width))
            if level > 0:
                layers.append(Upsample(width))
                factor //= 2
        self.layers = nn.Sequential(*layers)
        self.norm_out = group_norm(width, EPS)
        self.conv_out = nn.Conv2d(width, out_channels * patch**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(patch)

    def forward(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Images, about in [-1, 1]."""
        return self.unfold(self.conv_out(F.silu(self.norm_out(self.layers(z)))))
