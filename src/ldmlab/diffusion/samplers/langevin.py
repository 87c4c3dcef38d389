"""Langevin dynamics: the samplers of score-based models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import natural, positive, positive_int
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """Langevin steps at each of a falling list of noise levels (Song & Ermon 2019, algorithm 1).

    x <- x - r sigma eps / 2 + sigma sqrt(r) z, where -eps / sigma is the score; the last step is
    the denoiser's x0.

    Args:
        inner_steps: Langevin steps at each level, a denoiser call each.
        step_size: r, relative to the variance of the noise.
    """

    steps: int = 50
    inner_steps: int = 5
    step_size: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int(inner_steps=self.inner_steps)
        positive(step_size=self.step_size)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1]."""
        level = schedule.level(timesteps)
        scale, sigma = level.scale.tolist(), level.sigma.tolist()
        for i, time in enumerate(timesteps[:-1]):
            for _ in range(self.inner_steps):
                drift = self.step_size * sigma[i] / 2 * denoiser(x, time).eps
                x = x - drift + self.step_size**0.5 * sigma[i] * noise.normal(x)
            x = x * (scale[i + 1] / scale[i]) if sigma[i + 1] > 0 else denoiser(x, time).x0
            if on_step is not None:
                on_step(i + 1, x)
        return x


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """Each step of a sampler is followed by Langevin corrections (Song et al. 2021, algorithm 1).

    The step size 2 alpha² (snr ‖z‖ / ‖score‖)² is measured on each sample by itself.

    Args:
        predictor: Makes the steps between the noise levels, of first order here; which ones, this
            sampler says.
        corrections: Langevin steps after each, a further denoiser call each.
        snr: Size of the score's move relative to the noise's.
    """

    steps: int = 100
    predictor: Sampler = field(default_factory=lambda: DDPM(variance="beta"))
    corrections: int = 1
    snr: float = 0.16

    def __post_init__(self) -> None:
        super().__post_init__()
        natural(corrections=self.corrections)
        positive(snr=self.snr)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1]; the data itself is not corrected."""
        predictor = replace(
            self.predictor, steps=self.steps, spacing=self.spacing, final=self.final
        )
        level = schedule.level(timesteps)
        alpha, sigma = level.alpha.tolist(), level.sigma.tolist()
        for i in range(len(timesteps) - 1):
            x = predictor(denoiser, x, timesteps[i : i + 2], schedule, noise)
            for _ in range(self.corrections if sigma[i + 1] > 0 else 0):
                score = -denoiser(x, timesteps[i + 1]).eps / sigma[i + 1]
                z = noise.normal(x)
                size = 2 * alpha[i + 1] ** 2 * (self.snr * _norm(z) / _norm(score)).square()
                x = x + size * score + torch.sqrt(2 * size) * z
            if on_step is not None:
                on_step(i + 1, x)
        return x


def _norm(x: Tensor) -> Tensor:
    """Root of the sum of squares of each sample, shaped to multiply it."""
    return broadcast_like(x.flatten(1).norm(dim=1).clamp(min=1e-12), x)
