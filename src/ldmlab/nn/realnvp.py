"""A small normalising flow: exact densities, to compare others with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.core.ranges import positive_int
from ldmlab.nn.blocks import zeroed


class FlowStep(nn.Module):
    """Act-norm, 1x1 convolution and affine coupling, at one scale.

    Blocks of pixels become the channels of u before the step, and pixels again behind it
    (Kingma & Dhariwal 2018, table 1, with the coupling of Dinh et al. 2017, equation 7):

        v = W (u - mean) / std + c
        z = [v₁, v₂ exp(s) + t],  s = gain tanh(r),  r and t from a network of v₁
        log |det dz/du| = h w (log |det W| - Σ log std) + Σ s

    W and c hold what act-norm would learn; `mean` and `std` are the data's and stay.

    Args:
        in_channels: Channels before folding.
        hidden_channels: Width of the coupling's network.
        factor: Side of the blocks in pixels, at least 2.
    """

    def __init__(self, in_channels: int, hidden_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        channels = in_channels * factor**2
        half = channels // 2
        self.mean = nn.Buffer(torch.zeros(channels, 1, 1))
        self.std = nn.Buffer(torch.ones(channels, 1, 1))
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.gain = nn.Parameter(torch.ones(half, 1, 1))
        self.network = nn.Sequential(
            nn.Conv2d(half, hidden_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, hidden_channels, 1),
            nn.SiLU(),
            zeroed(nn.Conv2d(hidden_channels, channels, 3, padding=1)),
        )

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "b c h w"]) -> None:
        """Take each channel's mean and deviation from `x`."""
        u = F.pixel_unshuffle(x, self.factor)
        self.mean.copy_(u.mean((0, 2, 3))[:, None, None])
        std = u.std((0, 2, 3), correction=0)[:, None, None]
        self.std.copy_(std.clamp_min(1e-3))  # a constant channel must not be scaled by infinity

    def forward(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """z, and log |det dz/dx| in nats."""
        u = F.pixel_unshuffle(x, self.factor)
        v = _mixed(self.weight, (u - self.mean) / self.std) + self.bias
        kept, changed = v.chunk(2, dim=1)
        log_scale, shift = self._coupling(kept)
        z = torch.cat([kept, changed * log_scale.exp() + shift], dim=1)
        linear = torch.linalg.slogdet(self.weight).logabsdet - self.std.log().sum()
        log_det = log_scale.flatten(1).sum(1) + linear * u.shape[2:].numel()
        return F.pixel_shuffle(z, self.factor), log_det

    def inverse(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The x that `forward` maps to `z`."""
        kept, changed = F.pixel_unshuffle(z, self.factor).chunk(2, dim=1)
        log_scale, shift = self._coupling(kept)
        v = torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], dim=1)
        u = _mixed(torch.linalg.inv(self.weight), v - self.bias) * self.std + self.mean
        return F.pixel_shuffle(u, self.factor)

    def _coupling(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(kept).chunk(2, dim=1)
        return self.gain * raw.tanh(), shift


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    # A product, because CUDA's convolutions default to TF32, too coarse to be inverted.
    return torch.einsum("dc,bchw->bdhw", matrix, x)


class RealNVP(nn.Module):
    """Affine couplings between learned mixings of channels, from data to a standard normal.

    After Dinh et al. (2017) and Kingma & Dhariwal (2018). Unlike theirs, each level folds blocks
    twice as wide as the last into channels and keeps them all, factoring none out, so that z has
    the shape of x. Where a block covers the picture, every pixel has its own statistics.

    Call `initialise` once before training; its result is in the state dict. Sample by the
    `inverse` of standard normal numbers. Keep both out of autocast, which rounds too coarsely.

    Args:
        in_channels: Channels of the images or latents.
        hidden_channels: Width of the couplings' networks.
        num_steps: Couplings a level.
        levels: Levels; height and width must divide by 2^levels.

    Raises:
        ArgumentError: There is no channel, level or step.
        ValueError: From the methods: a shape does not fit, or there are no samples.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 64, num_steps: int = 8, levels: int = 2
    ) -> None:
        super().__init__()
        positive_int(in_channels=in_channels, hidden_channels=hidden_channels)
        positive_int(num_steps=num_steps, levels=levels)
        self.in_channels = in_channels
        self.multiple = 2**levels
        factors = [2**level for level in range(1, levels + 1) for _ in range(num_steps)]
        steps = nn.ModuleList(FlowStep(in_channels, hidden_channels, factor) for factor in factors)
        self.steps = cast("Sequence[FlowStep]", steps)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "b c h w"]) -> None:
        """Act-norm: bring what every step mixes to mean 0 and deviation 1 on this batch.

        Args:
            x: Some hundred samples of the data; equal samples give equal flows.
        """
        self._check(x)
        for step in self.steps:
            step.initialise(x)
            x, _ = step(x)

    def forward(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """z, and log |det dz/dx| of each sample, in nats."""
        self._check(x)
        log_det = x.new_zeros(len(x))
        for step in self.steps:
            x, change = step(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The x that `forward` maps to `z`."""
        self._check(z)
        for step in reversed(self.steps):
            z = step.inverse(z)
        return z

    def log_prob(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """log p(x) = log N(z; 0, I) + log |det dz/dx|, in nats a sample."""
        z, log_det = self(x)
        normal = -0.5 * (z.square() + math.log(2 * math.pi))
        return normal.flatten(1).sum(1) + log_det

    def _check(self, x: Tensor) -> None:
        samples, channels, height, width = x.shape
        if not samples:
            raise ValueError("a flow cannot take a batch of no samples")  # nor can pixel_shuffle
        if channels != self.in_channels or height % self.multiple or width % self.multiple:
            raise ValueError(
                f"a flow of {self.in_channels} channels and sides divisible by {self.multiple} "
                f"cannot take {channels} x {height} x {width}"
            )
