"""Loss weights w(schedule, t), defined for the error in eps whatever the network predicts."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.diffusion.reverse import chain_step
from ldmlab.diffusion.schedule import Schedule


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
        self.data_std = data_std

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """s² / data_std² + 1."""
        level = schedule.level(t).with_some_signal()
        return (level.sigma / (level.alpha * self.data_std)).square() + 1


class VLB(Weighting):
    """w = T beta_t / (2 alpha_t (1 - alpha_bar_t)): the bound itself (Ho et al. 2020).

    Its mean over uniform times is sum_t L_{t-1} with variance beta, in nats a value.

    Args:
        num_steps: T of a schedule that is a formula.
    """

    def __init__(self, num_steps: int = 1000) -> None:
        self.num_steps = num_steps

    def __call__(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """T variance / (2 sigma² ratio²) of the step that ends at `t`."""
        count = schedule.num_steps or self.num_steps
        step = chain_step(schedule, t, count)
        ratio = step.start.with_some_signal().alpha / step.end.alpha
        return count * step.variance / (2 * (step.start.sigma * ratio).square())
