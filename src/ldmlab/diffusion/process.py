"""The diffusion process: the one owner of schedule, parameterisation, weighting and times."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.records import Conditioning, LossTerms, Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.parameterization import Parameterization
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.times import TrainingTimes
from ldmlab.diffusion.weighting import Weighting


@runtime_checkable
class Network(Protocol):
    """A trainable function of the noised sample, the network's time and the conditioning."""

    def __call__(
        self, x: Float[Tensor, "b *shape"], time: Float[Tensor, " b"], conditioning: Conditioning
    ) -> Float[Tensor, "b *shape"]:
        """The network's output, in the process' parameterisation."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """What guidance and samplers work with: a noised sample and its time give x0 and eps."""

    def __call__(self, x: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"]) -> Prediction:
        """The estimate at time `t`, one for the batch (no dimension) or one a sample."""
        ...


class DiffusionProcess:
    """Noises samples, turns a network into a denoiser and measures its loss.

    Args:
        schedule: Noise level as a function of time.
        parameterization: What the network predicts.
        weighting: Weight of the error in eps as a function of time.
        times: Distribution of the training times.

    Raises:
        ValueError: The parameterisation is singular on this schedule.
    """

    def __init__(
        self,
        schedule: Schedule,
        parameterization: Parameterization,
        weighting: Weighting,
        times: TrainingTimes,
    ) -> None:
        parameterization.check(schedule)
        self.schedule = schedule
        self.parameterization = parameterization
        self.weighting = weighting
        self.times = times

    def diffuse(
        self,
        x0: Float[Tensor, "b *shape"],
        t: Float[Tensor, "*b"],
        eps: Float[Tensor, "b *shape"],
    ) -> Float[Tensor, "b *shape"]:
        """x_t = alpha x0 + sigma eps, a draw of q(x_t | x0)."""
        level = self.schedule.level(t)
        return broadcast_like(level.alpha, x0) * x0 + broadcast_like(level.sigma, x0) * eps

    def denoiser(self, network: Network, conditioning: Conditioning) -> Denoiser:
        """The network under one conditioning as a function of (x, t)."""

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            time = self.parameterization.network_time(t).to(x.device, torch.float32)
            output = network(x, time.expand(len(x)), conditioning).to(x.dtype)
            return self.parameterization.solve(output, x, self.schedule.level(t))

        return denoise

    def loss(
        self,
        network: Network,
        x0: Float[Tensor, "b *shape"],
        conditioning: Conditioning,
        noise: Noise,
    ) -> LossTerms:
        """w(t) ‖eps - eps_theta(x_t, t)‖², a mean over each sample's values.

        The error is taken on the network's own target, where it is well conditioned, and the
        weight is carried over by the Jacobian d eps / d target = alpha / (alpha q - sigma p).
        """
        t = self.times(self.schedule, noise, x0)
        eps = noise.normal(x0)
        level = self.schedule.level(t)
        time = self.parameterization.network_time(t).to(torch.float32)
        output = network(self.diffuse(x0, t, eps), time, conditioning).to(x0.dtype)
        error = (output - self.parameterization.target(x0, eps, level)).square()
        jacobian = level.alpha / self.parameterization.determinant(level)
        weight = self.weighting(self.schedule, t) * jacobian.square()
        return LossTerms(per_sample=error.flatten(1).mean(1) * weight.to(error.dtype), t=t)
