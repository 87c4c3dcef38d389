"""Denoising diffusion implicit models."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class DDIM(Sampler):
    """x_s = alpha_s x0 + sqrt(sigma_s² - v²) eps + v z (Song et al. 2021, equation 12).

    Args:
        eta: 0 is deterministic; 1 on every step of the table is DDPM with `beta_tilde`.
    """

    eta: float = 0.0

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, "b *shape"],
        times: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """Carry `x` from times[0] to times[-1]."""
        level = schedule.level(times)
        a_t, a_s = level.alpha[:-1], level.alpha[1:]
        s_t, s_s = level.sigma[:-1], level.sigma[1:]
        step = (s_t**2 - (a_t / a_s * s_s) ** 2).clamp(min=0)
        std = self.eta * s_s / s_t * step.sqrt()
        signal, direction = a_s.tolist(), (s_s**2 - std**2).clamp(min=0).sqrt().tolist()
        for i, deviation in enumerate(std.tolist()):
            prediction = denoiser(x, times[i])
            x = signal[i] * prediction.x0 + direction[i] * prediction.eps
            if deviation > 0:
                x = x + deviation * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x
