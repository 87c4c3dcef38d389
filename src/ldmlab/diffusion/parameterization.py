"""What a network predicts: every target is p x0 + q eps, and one 2x2 solve gives both back."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.level import NoiseLevel
from ldmlab.diffusion.schedule import Schedule

Coefficients = tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]


class Parameterization(ABC):
    """A pair (p, q) as a function of the noise level, with target p x0 + q eps."""

    @abstractmethod
    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """The pair (p, q) at a noise level."""

    def determinant(self, level: NoiseLevel) -> Float[Tensor, "*b"]:
        """alpha q - sigma p: zero where the target says nothing new about x."""
        p, q = self.coefficients(level)
        return level.alpha * q - level.sigma * p

    def network_time(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time that the network sees, 1000 t - 1: the published integer step of a table."""
        return 1000 * t - 1

    def target(
        self, x0: Float[Tensor, "b *shape"], eps: Float[Tensor, "b *shape"], level: NoiseLevel
    ) -> Float[Tensor, "b *shape"]:
        """p x0 + q eps."""
        p, q = self.coefficients(level)
        return broadcast_like(p, x0) * x0 + broadcast_like(q, x0) * eps

    def solve(
        self, output: Float[Tensor, "b *shape"], x: Float[Tensor, "b *shape"], level: NoiseLevel
    ) -> Prediction:
        """The pair (x0, eps) that explains both the noised sample `x` and the network's output."""
        p, q = self.coefficients(level)
        det = self.determinant(level)
        a, s, p, q = (broadcast_like(c / det, x) for c in (level.alpha, level.sigma, p, q))
        return Prediction(x0=q * x - s * output, eps=a * output - p * x)

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule on which the target determines nothing.

        Raises:
            ValueError: The 2x2 system is singular at the noisiest time.
        """
        if float(self.determinant(schedule.level(torch.tensor(1.0))).abs()) < 1e-12:
            raise ValueError(
                f"{type(self).__name__} cannot be solved for x0 at t = 1 of "
                f"{type(schedule).__name__}, where no signal is left; use v or x0"
            )


class Eps(Parameterization):
    """The network predicts the noise (Ho et al. 2020)."""

    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """(0, 1)."""
        return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)


class X0(Parameterization):
    """The network predicts the clean signal."""

    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """(1, 0)."""
        return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)


class V(Parameterization):
    """The network predicts v = alpha eps - sigma x0 (Salimans & Ho 2022)."""

    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """(-sigma, alpha)."""
        return -level.sigma, level.alpha


class Flow(Parameterization):
    """The network predicts the velocity eps - x0 of a rectified flow (Liu et al. 2022)."""

    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """(-1, 1)."""
        return -torch.ones_like(level.alpha), torch.ones_like(level.alpha)
