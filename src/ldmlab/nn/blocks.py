"""Convolutional blocks of the U-Net and of the autoencoder."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def zeroed(module: nn.Module) -> nn.Module:
    """Set every parameter to zero: a residual branch then starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """GroupNorm of 32 groups, or of 8 where the channels do not divide by 32."""
    return nn.GroupNorm(32 if channels % 32 == 0 else 8, channels, eps=eps)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution.

    Args:
        channels: Number of input channels.
        out_channels: Number of output channels; as many as come in by default.
    """

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d 2*h 2*w"]:
        """Double height and width."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2.

    Args:
        channels: Number of channels, kept.
        padding: `symmetric` pads one pixel around (U-Net); `after` pads only right and below
            (the published autoencoders).
    """

    def __init__(self, channels: int, padding: Literal["symmetric", "after"] = "symmetric") -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(padding == "symmetric"))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Halve height and width."""
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.padding == "after" else x)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a skip connection.

    Args:
        channels: Number of input channels.
        out_channels: Number of output channels.
        embedding_dim: Width of the time embedding; None for a block without one.
        dropout: Probability of dropping a feature before the second convolution.
        scale_shift: The embedding scales and shifts the second norm instead of being added.
        resample: Halve or double the resolution inside the block.
        eps: Epsilon of the norms: 1e-5 in the U-Net, 1e-6 in the autoencoder.
        zero_init: Start the residual branch at zero.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: Literal["up", "down"] | None = None,
        eps: float = 1e-5,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.norm1 = group_norm(channels, eps)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv2 = zeroed(conv2) if zero_init else conv2
        self.skip = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        )
        if embedding_dim is not None:
            width = out_channels * (2 if scale_shift else 1)
            self.embedding = nn.Linear(embedding_dim, width)

    def forward(
        self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b d h2 w2"]:
        """Transform the features under a time embedding."""
        h = self.conv1(self._resampled(F.silu(self.norm1(x))))
        if embedding is None:
            h = self.norm2(h)
        else:
            shift = self.embedding(F.silu(embedding))[:, :, None, None]
            if self.scale_shift:
                scale, shift = shift.chunk(2, dim=1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + shift)
        h = self.conv2(self.dropout(F.silu(h)))
        return self.skip(self._resampled(x)) + h

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x
