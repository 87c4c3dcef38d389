"""DPM-Solver++, the second-order multistep solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.level import NoiseLevel
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

    The first step is of first order, and so is one that ends at the data.

    With lambda = log(alpha / sigma) and h its rise over a step,
    x_s = sigma_s / sigma_t x - alpha_s (exp(-h) - 1) D, where D extrapolates the last two x0.
    """

    steps: int = 20

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1]; the ODE's solver uses no `noise`."""
        level = schedule.level(timesteps)
        keep, signal, std = (factor.tolist() for factor in self._factors(level))
        half_log_snr = level.log_snr / 2
        h = half_log_snr[1:] - half_log_snr[:-1]
        extrapolate = torch.zeros_like(h)
        extrapolate[1:] = h[1:] / (2 * h[:-1])
        extrapolate = torch.where(torch.isfinite(h), extrapolate, 0.0)
        previous = None
        for i, weight in enumerate(extrapolate.tolist()):
            x0 = denoiser(x, timesteps[i]).x0
            slope = x0 if previous is None else x0 + weight * (x0 - previous)
            x, previous = keep[i] * x + signal[i] * slope, x0
            if std[i] > 0:
                x = x + std[i] * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x

    def _factors(self, level: NoiseLevel) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, of the extrapolated x0 and of the noise, for each step between the levels."""
        a_t, a_s = level.alpha[:-1], level.alpha[1:]
        s_t, s_s = level.sigma[:-1], level.sigma[1:]
        # exp(-h) as a ratio stays finite where a level has no signal or no noise.
        return s_s / s_t, a_s - s_s * a_t / s_t, torch.zeros_like(s_s)
