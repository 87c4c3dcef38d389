"""DDIM, the sampler of denoising diffusion implicit models (Song et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import non_negative
from ldmlab.core.tensors import combine
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.transition import transitions


@dataclass(frozen=True)
class DDIM(Sampler):
    """x_s = alpha_s x0 + sqrt(sigma_s² - v²) eps + v z (Song et al. 2021, equation 12).

    Args:
        eta: 0 is deterministic, and runs backwards on rising timesteps (inversion);
            1 on every step of the table is DDPM with `beta_tilde`.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(eta=self.eta)

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
        step = transitions(schedule, timesteps)
        # Rising timesteps have no forward variance: they are deterministic, an inversion.
        std = self.eta * step.posterior_variance.sqrt()
        s_s = step.end.sigma
        signal = step.end.alpha.tolist()
        direction = (s_s.square() - std.square()).clamp(min=0).sqrt().tolist()
        for i, (t, deviation) in enumerate(zip(timesteps, std.tolist(), strict=False)):
            prediction = denoiser(x, t)
            # Memory that is given back at once is still in the cache when it is taken again.
            del x
            x = combine(signal[i], prediction.x0, direction[i], prediction.eps)
            del prediction
            if deviation > 0:
                x = x + deviation * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x
