"""Data x0 ~ N(0, s²), for which the best denoiser and the result of every sampler are known.

Everything is linear, so a sample is followed as its vector of coefficients: entry 0 belongs to
the starting noise and entry k to the k-th noise that the sampler adds. The norm of the vector is
the exact standard deviation of the samples; nothing is estimated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.records import Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.diffusion.schedule import Schedule


class CoefficientNoise(Noise):
    """Hands out a new unit vector at each draw."""

    def __init__(self) -> None:
        self.draws = 0

    def normal(self, like: Tensor) -> Tensor:
        """The next basis vector."""
        self.draws += 1
        unit = torch.zeros_like(like)
        unit[:, self.draws] = 1
        return unit

    def uniform(self, like: Tensor) -> Tensor:
        """No sampler draws uniform numbers."""
        raise AssertionError("a sampler drew uniform numbers")


class BatchNoise(Noise):
    """Draws for a whole batch from one generator: thousands of rows at once."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers uniform in [0, 1)."""
        return torch.rand(like.shape, generator=self.generator, dtype=like.dtype)


def exact_denoiser(schedule: Schedule, s: float) -> Denoiser:
    """E[x0 | x_t] and the eps that goes with it."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        level = schedule.level(t)
        a, v = broadcast_like(level.alpha, x), broadcast_like(level.sigma, x)
        total = a**2 * s**2 + v**2
        return Prediction(x0=a * s**2 / total * x, eps=v / total * x)

    return denoise


def sampled_std(
    sampler: Sampler, schedule: Schedule, s: float, times: Tensor | None = None, start: float = 1.0
) -> float:
    """Standard deviation of the samples when starting from N(0, start²)."""
    times = sampler.timesteps(schedule) if times is None else times
    x = torch.zeros(1, len(times) + 1, dtype=torch.float64)
    x[:, 0] = start
    noise = CoefficientNoise()
    return float(sampler(exact_denoiser(schedule, s), x, times, schedule, noise).norm())
