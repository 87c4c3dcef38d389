"""EDM's samplers: Euler's and Heun's methods with optional churn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import at_least, non_negative
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method on dx/ds = eps in units of the signal, s = sigma / alpha (Karras et al. 2022).

    Without churn it is DDIM with eta = 0. Churn raises the noise a little before each step
    (algorithm 2), which corrects errors of earlier steps.

    Args:
        churn: Total amount, spread over the steps of a whole run; 0 is deterministic.
        churn_min: Smallest s that is churned.
        churn_max: Largest s that is churned.
        churn_noise: Standard deviation of the added noise, relative to what s asks for.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(churn=self.churn, churn_min=self.churn_min, churn_noise=self.churn_noise)
        if self.churn_max != math.inf:
            at_least(self.churn_min, "churn_min")(churn_max=self.churn_max)

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
        amount = self._churn_a_step(schedule)
        for i, (t, s) in enumerate(pairwise(timesteps)):
            if amount > 0:
                x, t = self._churned(x, t, amount, schedule, noise)
            x = self._step(denoiser, x, t, s, schedule)
            if on_step is not None:
                on_step(i + 1, x)
        return x

    def _churn_a_step(self, schedule: Schedule) -> float:
        """Relative rise of s a step of a whole run, of which `timesteps` may be a part."""
        if self.churn == 0:
            return 0.0
        return min(self.churn / (len(self.timesteps(schedule)) - 1), math.sqrt(2) - 1)

    def _churned(
        self, x: Tensor, t: Tensor, amount: float, schedule: Schedule, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """The sample at a slightly noisier time; times are on the CPU, so nothing synchronises."""
        before = schedule.level(t)
        relative = before.sigma / before.alpha
        if not self.churn_min <= float(relative) <= self.churn_max or float(t) >= 1:
            return x, t
        later = schedule.time(-2 * torch.log(relative * (1 + amount)))
        after = schedule.level(later)
        added = ((after.sigma / after.alpha).square() - relative.square()).clamp(min=0).sqrt()
        scale, std = float(after.alpha / before.alpha), float(after.alpha * added)
        return scale * x + std * self.churn_noise * noise.normal(x), later

    def _step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, schedule: Schedule
    ) -> Tensor:
        """The step from t to s along eps at t."""
        prediction, end = denoiser(x, t), schedule.level(s)
        return float(end.alpha) * prediction.x0 + float(end.sigma) * prediction.eps


@dataclass(frozen=True)
class Heun(Euler):
    """Heun's method: the mean of the slopes at both ends of a step (Karras et al. 2022).

    Of second order with two denoiser calls a step. The step that reaches the data is Euler's,
    and so is one over which s falls more than thirty-fold, as from the end of a cosine chain:
    a mean of slopes says nothing there.
    """

    steps: int = 18

    def _step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, schedule: Schedule
    ) -> Tensor:
        """The step from t to s along the mean of eps at t and of eps at Euler's guess."""
        start, end = schedule.level(t), schedule.level(s)
        prediction = denoiser(x, t)
        guess = float(end.alpha) * prediction.x0 + float(end.sigma) * prediction.eps
        fall = start.sigma * end.alpha / (start.alpha * end.sigma)
        if not fall <= 30:
            return guess
        rise = float(end.sigma - end.alpha * start.sigma / start.alpha)
        return guess + rise / 2 * (denoiser(guess, s).eps - prediction.eps)
