"""Ancestral sampling of the reverse Markov chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class DDPM(Sampler):
    """x_s ~ N(posterior mean, variance) from t to any earlier s (Ho et al. 2020, algorithm 2).

    Args:
        variance: `beta` is the forward step's, `beta_tilde` the posterior's: the right ones for
            data of unit variance and for a single data point.
    """

    variance: Literal["beta", "beta_tilde"] = "beta_tilde"

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, "b *shape"],
        times: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """Carry `x` from times[0] to times[-1]; no noise is added where the chain ends at t = 0."""
        level = schedule.level(times)
        (a_t, a_s), (s_t, s_s) = _pairs(level.alpha), _pairs(level.sigma)
        ratio = a_t / a_s
        step = (s_t**2 - (ratio * s_s) ** 2).clamp(min=0)
        posterior = step * s_s**2 / s_t**2
        std = (step if self.variance == "beta" else posterior).sqrt() * (s_s > 0)
        keep, signal = (ratio * s_s**2 / s_t**2).tolist(), (a_s * step / s_t**2).tolist()
        for i, deviation in enumerate(std.tolist()):
            x = keep[i] * x + signal[i] * denoiser(x, times[i]).x0
            if deviation > 0:
                x = x + deviation * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x


def _pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    return values[:-1], values[1:]
