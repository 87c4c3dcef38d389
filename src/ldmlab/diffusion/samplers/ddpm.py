"""DDPM's ancestral sampling of the reverse Markov chain (Ho et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import one_of
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.reverse import Place, Variance, variance_fraction
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.transition import transitions


@dataclass(frozen=True)
class DDPM(Sampler):
    """x_s ~ N(posterior mean, variance) from t to any earlier s (Ho et al. 2020, algorithm 2).

    Args:
        variance: `beta` is the forward step's, `beta_tilde` the posterior's: the right ones for
            data of unit variance and for a single data point. `learned` asks the model.
    """

    variance: Variance = "beta_tilde"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Variance)(variance=self.variance)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1]; no noise is added at t = 0."""
        step = transitions(schedule, timesteps)
        small, large = step.posterior_variance.sqrt(), step.variance.sqrt()
        noisy = (step.end.sigma > 0).tolist()
        keep, signal = step.keep.tolist(), step.signal.tolist()
        fixed = (large if self.variance == "beta" else small).tolist()
        for i in range(len(timesteps) - 1):
            prediction = denoiser(x, timesteps[i])
            x = keep[i] * x + signal[i] * prediction.x0
            if noisy[i]:
                std: float | Tensor = fixed[i]
                if self.variance == "learned":
                    place = variance_fraction("learned", prediction)
                    std = _between(place, float(small[i]), float(large[i]))
                x = x + std * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x


def _between(place: Place, small: float, large: float) -> Tensor:
    return torch.exp(torch.as_tensor(place * math.log(large) + (1 - place) * math.log(small)))
