"""Sinusoidal embedding of the diffusion time."""

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn


def sinusoidal_embedding(time: Real[Tensor, " b"], dim: int) -> Float[Tensor, "b dim"]:
    """[cos(w_i t), sin(w_i t)] with w_i = 10000^(-i / half) (Vaswani et al. 2017; DDPM's order).

    Args:
        time: Network time, about 0 to 1000.
        dim: Width, even.
    """
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=time.device)
    # In the published order of operations: float32 rounding shows at time 1000.
    angles = time.float()[:, None] * torch.exp(-math.log(10_000) * index / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the time and a two-layer perceptron.

    Args:
        channels: Number of sinusoidal features.
        dim: Width of the result.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.channels = channels
        self.mlp = nn.Sequential(nn.Linear(channels, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Real[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        """Embed one time per sample."""
        dtype = next(self.mlp.parameters()).dtype
        return self.mlp(sinusoidal_embedding(time, self.channels).to(dtype))
