"""The diffusion process: the one owner of schedule, parameterisation, weighting and times."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import one_of
from ldmlab.core.records import Conditioning, LossTerms, Prediction
from ldmlab.core.tensors import broadcast_like, combine, is_number
from ldmlab.diffusion.parameterization import Parameterization, Preconditioning
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.timestep_sampler import TimestepSampler
from ldmlab.diffusion.weighting import Weighting

LossType = Literal["l1", "l2"]

_REMEMBERED_TIMES = 4096


@runtime_checkable
class Network(Protocol):
    """A trainable function of the noised sample, the network's time and the conditioning."""

    def __call__(
        self, x: Float[Tensor, " b *shape"], time: Float[Tensor, " b"], conditioning: Conditioning
    ) -> Float[Tensor, " b *out"]:
        """The network's output, in the process' parameterisation."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """What guidance and samplers work with: a noised sample and its time give x0 and eps."""

    def __call__(self, x: Float[Tensor, " b *shape"], t: Float[Tensor, " *b"]) -> Prediction:
        """The estimate at time `t`, one for the batch (no dimension) or one a sample."""
        ...


class DiffusionProcess:
    """Noises samples, turns a network into a denoiser and measures its loss.

    Args:
        schedule: Noise level as a function of time.
        parameterization: What the network predicts.
        weighting: Weight of the error in eps as a function of time.
        timestep_sampler: Distribution of the training times.
        loss_type: Of a value's error: `l2` (squared) or `l1`.

    Raises:
        ValueError: The parameterisation is singular on this schedule.
    """

    def __init__(
        self,
        schedule: Schedule,
        parameterization: Parameterization,
        weighting: Weighting,
        timestep_sampler: TimestepSampler,
        loss_type: LossType = "l2",
    ) -> None:
        one_of(LossType)(loss_type=loss_type)
        parameterization.check(schedule)
        self.schedule = schedule
        self.parameterization = parameterization
        self.weighting = weighting
        self.timestep_sampler = timestep_sampler
        self.loss_type = loss_type
        # Samplers come back to the same few times for every batch.
        self._known: dict[float | None, Preconditioning] = {}

    def diffuse(
        self,
        x0: Float[Tensor, " b *shape"],
        t: Float[Tensor, " *b"],
        eps: Float[Tensor, " b *shape"],
    ) -> Float[Tensor, " b *shape"]:
        """x_t = alpha x0 + sigma eps, a draw of q(x_t | x0)."""
        level = self.schedule.level(t)
        return combine(level.alpha, x0, level.sigma, eps)

    def denoiser(self, network: Network, conditioning: Conditioning) -> Denoiser:
        """The network under one conditioning as a function of (x, t)."""

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            preconditioning = self._preconditioning(t)
            output = _output(network, x, preconditioning, conditioning)
            return self.parameterization.predict(output, x, preconditioning)

        return denoise

    def loss(
        self,
        network: Network,
        x0: Float[Tensor, " b *shape"],
        conditioning: Conditioning,
        noise: Noise,
    ) -> LossTerms:
        """w(t) ‖eps - eps_theta(x_t, t)‖², or |…| for `l1`, a mean over each sample's values.

        The error is taken on the network's own target, where it is well conditioned, and the
        weight is carried over by the Jacobian d eps / d target = alpha / (alpha q - sigma p).
        A parameterisation may add a term of its own.
        """
        draw = self.timestep_sampler(self.schedule, noise, x0)
        t = draw.t
        eps = noise.normal(x0)
        level = self.schedule.level(t)
        x = self.diffuse(x0, t, eps)
        preconditioning = self.parameterization.preconditioning(t, level)
        output = _output(network, x, preconditioning, conditioning)
        answer = self.parameterization.answer(output)
        error = answer - self.parameterization.target(x0, eps, level)
        # Where no signal is left, weight and Jacobian are infinite and 0: take their limit.
        signal = level.with_some_signal().alpha
        jacobian = signal / self.parameterization.determinant(level)
        if self.loss_type == "l2":
            distance, scale = error.square(), jacobian.square()
        else:
            distance, scale = error.abs(), jacobian.abs()
        weight = self.weighting(self.schedule, t) * scale
        loss = distance.flatten(1).mean(1) * weight.to(error.dtype)
        loss = loss + self.parameterization.further_loss(
            output, x, preconditioning, x0, t, self.schedule
        )
        return LossTerms(per_sample=loss * draw.weight.to(loss), unweighted=loss.detach(), t=t)

    def _preconditioning(self, t: Tensor) -> Preconditioning:
        """How the network is asked and read at times `t`."""
        number = float(t) if is_number(t) else None
        if number in self._known:
            return self._known[number]
        preconditioning = self.parameterization.preconditioning(t, self.schedule.level(t))
        if number is None:
            return preconditioning
        if len(self._known) < _REMEMBERED_TIMES:
            self._known[number] = preconditioning.as_numbers()
        return preconditioning.as_numbers()


def _output(
    network: Network, x: Tensor, preconditioning: Preconditioning, conditioning: Conditioning
) -> Tensor:
    """The network's output for `x`, scaled and timed as the parameterisation wants it."""
    if not isinstance(preconditioning.c_in, float):
        x = broadcast_like(preconditioning.c_in, x) * x
    elif preconditioning.c_in != 1:
        x = preconditioning.c_in * x
    if isinstance(preconditioning.c_noise, float):
        time = x.new_full((len(x),), preconditioning.c_noise, dtype=torch.float32)
    else:
        time = preconditioning.c_noise.to(x.device, torch.float32).expand(len(x))
    return network(x, time, conditioning).to(x.dtype)
