"""Loss weights w(schedule, t), defined for the error in eps whatever the network predicts."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

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
        return schedule.level(t).alpha.square().reciprocal()


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
