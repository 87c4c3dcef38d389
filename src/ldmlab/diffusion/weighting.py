"""Loss weights w(schedule, t), defined for the error in eps whatever the network predicts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import non_negative, one_of, positive, positive_int
from ldmlab.diffusion.reverse import chain_step
from ldmlab.diffusion.schedule import Schedule

FixedVariance = Literal["beta", "beta_tilde"]


class Weighting(ABC):
    """A weight of ‖eps - eps_theta‖² as a function of time."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The weight at times `t`, in float64."""


class Unit(Weighting):
    """w = 1: the simple loss of DDPM (Ho et al. 2020, equation 14)."""

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """1."""
        return torch.ones_like(t, dtype=torch.float64)


class Velocity(Weighting):
    """w = 1 / alpha²: the plain squared error of a v or flow prediction."""

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """1 / alpha²."""
        return schedule.level(t).with_some_signal().alpha.square().reciprocal()


class MinSNR(Weighting):
    """w = min(SNR, gamma) / SNR: no noise level dominates (Hang et al. 2023).

    Args:
        gamma: Signal-to-noise ratio above which the weight falls.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        positive(gamma=gamma)
        self.gamma = gamma

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """min(1, gamma / SNR)."""
        return (self.gamma * torch.exp(-schedule.level(t).log_snr)).clamp(max=1)


class SoftMinSNR(Weighting):
    """w = gamma / (SNR + gamma): min-SNR without the corner (Crowson et al. 2024).

    Args:
        gamma: Signal-to-noise ratio around which the weight falls.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        positive(gamma=gamma)
        self.gamma = gamma

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """gamma / (SNR + gamma)."""
        return self.gamma / (torch.exp(schedule.level(t).log_snr) + self.gamma)


class EDM(Weighting):
    """EDM's weight, under which its own target has a plain squared error (Karras et al. 2022).

    (s² + data_std²) / (s data_std)² for the error in x0, with s = sigma / alpha.

    Args:
        data_std: Standard deviation of the data.
    """

    def __init__(self, data_std: float = 1.0) -> None:
        positive(data_std=data_std)
        self.data_std = data_std

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """s² / data_std² + 1."""
        level = schedule.level(t).with_some_signal()
        return (level.sigma / (level.alpha * self.data_std)).square() + 1


class VLB(Weighting):
    """w = T beta_t / (2 alpha_t (1 - alpha_bar_t)): the bound itself (Ho et al. 2020).

    Its mean over uniform times is sum_t L_{t-1} with variance beta, in nats a value.

    With the reverse variance beta_tilde it is the bound of latent diffusion's published code;
    the posterior of the first step has no variance, and the second's weight stands in.

    Args:
        num_steps: T of a schedule that is a formula.
        variance: Of the reverse step: `beta` or `beta_tilde`.
    """

    def __init__(self, num_steps: int = 1000, variance: FixedVariance = "beta") -> None:
        positive_int(num_steps=num_steps)
        one_of(FixedVariance)(variance=variance)
        self.num_steps = num_steps
        self.variance = variance

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """T beta² / (2 variance sigma² ratio²) of the step that ends at `t`."""
        count = schedule.num_steps or self.num_steps
        if self.variance == "beta_tilde":
            t = t.clamp(min=2 / count)
        step = chain_step(schedule, t, count)
        ratio = step.start.with_some_signal().alpha / step.end.alpha
        reverse = step.variance if self.variance == "beta" else step.posterior_variance
        return count * step.variance.square() / (2 * reverse * (step.start.sigma * ratio).square())


class Sum(Weighting):
    """w = sum of factor_i w_i: several losses of one error.

    Args:
        factors: One for each weighting.
        weightings: The terms.

    Raises:
        ValueError: There are not as many factors as weightings.
    """

    def __init__(self, factors: Sequence[float], weightings: Sequence[Weighting]) -> None:
        non_negative.many(1)(factors=factors)
        if len(factors) != len(weightings):
            raise ValueError(f"{len(factors)} factors for {len(weightings)} weightings")
        self.factors = list(factors)
        self.weightings = list(weightings)

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The sum of the terms."""
        terms = zip(self.factors, self.weightings, strict=True)
        return torch.stack([f * weighting(schedule, t) for f, weighting in terms]).sum(0)
