"""Langevin dynamics: the samplers of score-based models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import natural, positive, positive_int
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.transition import transitions


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

    x <- x + r score + sqrt(2 r) z with r = 2 (1 - beta) (snr sigma)², beta being the variance of
    the predictor's step. The published r measures ‖z‖ / ‖score‖, about sigma, on the samples: a
    step that depends on where a sample is does not keep p, least of all in few dimensions.

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
        step = transitions(schedule, timesteps)
        sigma = step.end.sigma.tolist()
        # ratio² is the step's 1 - beta.
        size = (2 * (step.ratio * self.snr * step.end.sigma).square()).tolist()
        for i in range(len(timesteps) - 1):
            x = predictor(denoiser, x, timesteps[i : i + 2], schedule, noise)
            for _ in range(self.corrections if sigma[i] > 0 else 0):
                score = -denoiser(x, timesteps[i + 1]).eps / sigma[i]
                x = x + size[i] * score + (2 * size[i]) ** 0.5 * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x
