"""In-painting: sampling what is unknown around what is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import positive_int
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.transition import transitions


@dataclass(frozen=True, eq=False)
class Inpainting:
    """Runs any sampler step by step and puts the noised known region in place before each one.

    With `resamplings` above 1 each step is repeated from a re-noised start, so that the unknown
    region comes to agree with the known (RePaint, Lugmayr et al. 2022, algorithm 1). Multistep
    solvers take their steps at first order.

    Args:
        sampler: Makes the steps.
        known: Data whose known region is kept, in the space of the samples.
        mask: 1 where `known` holds, 0 where it is to be painted.
        resamplings: Times that each step is made.
    """

    sampler: Sampler
    known: Float[Tensor, " b *shape"]
    mask: Float[Tensor, " b *shape"]
    resamplings: int = 1

    def __post_init__(self) -> None:
        positive_int(resamplings=self.resamplings)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1]; what is known ends as in `known`."""
        step = transitions(schedule, timesteps)
        alpha, sigma = step.start.alpha.tolist(), step.start.sigma.tolist()
        ratio, std = step.ratio.tolist(), step.variance.sqrt().tolist()
        for i in range(len(timesteps) - 1):
            for again in range(self.resamplings):
                if again > 0:
                    x = ratio[i] * x + std[i] * noise.normal(x)
                noised = alpha[i] * self.known + sigma[i] * noise.normal(x)
                x = torch.where(self.mask > 0.5, noised, x)
                x = self.sampler(denoiser, x, timesteps[i : i + 2], schedule, noise)
            if on_step is not None:
                on_step(i + 1, x)
        return torch.where(self.mask > 0.5, self.known, x) if float(timesteps[-1]) == 0 else x
