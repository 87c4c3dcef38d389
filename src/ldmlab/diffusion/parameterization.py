"""What a network predicts: every target is p x0 + q eps, and one 2x2 solve gives both back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import positive, positive_int
from ldmlab.core.records import Prediction
from ldmlab.core.tensors import Factor, combine
from ldmlab.diffusion.level import NoiseLevel
from ldmlab.diffusion.schedule import Schedule

Coefficients = tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]


@dataclass(frozen=True)
class Preconditioning:
    """How a network is asked at one noise level, and how its output is read.

    Attributes:
        c_in: Factor of x before the network.
        c_noise: What the network sees as time.
        x0: Factors of x and of the output whose sum is the clean signal.
        eps: Factors of x and of the output whose sum is the noise.
    """

    c_in: Factor
    c_noise: Factor
    x0: tuple[Factor, Factor]
    eps: tuple[Factor, Factor]

    def as_numbers(self) -> Preconditioning:
        """The same for a whole batch at one time, which no step has to work out again."""
        return Preconditioning(
            c_in=float(self.c_in),
            c_noise=float(self.c_noise),
            x0=(float(self.x0[0]), float(self.x0[1])),
            eps=(float(self.eps[0]), float(self.eps[1])),
        )


class Parameterization(ABC):
    """A pair (p, q) as a function of the noise level, with target p x0 + q eps.

    Attributes:
        outputs: Numbers that the network gives for each value of the sample.
        num_times: Entries of the table whose numbers the network sees as time.
    """

    outputs: int = 1
    num_times: int = 1000

    @abstractmethod
    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """The pair (p, q) at a noise level."""

    def determinant(self, level: NoiseLevel) -> Float[Tensor, " *b"]:
        """alpha q - sigma p: zero where the target says nothing new about x."""
        p, q = self.coefficients(level)
        return level.alpha * q - level.sigma * p

    def c_in(self, level: NoiseLevel) -> Float[Tensor, " *b"]:
        """Factor of x before the network (EDM's c_in): 1, or what keeps x at unit variance."""
        return torch.hypot(level.alpha, level.sigma).clamp(min=1).reciprocal()

    def c_noise(self, t: Float[Tensor, " *b"], level: NoiseLevel) -> Float[Tensor, " *b"]:
        """What the network sees as time (EDM's c_noise): the number of the table's entry."""
        return (self.num_times * t - 1).clamp(min=0)

    def target(
        self, x0: Float[Tensor, " b *shape"], eps: Float[Tensor, " b *shape"], level: NoiseLevel
    ) -> Float[Tensor, " b *shape"]:
        """p x0 + q eps."""
        p, q = self.coefficients(level)
        return combine(p, x0, q, eps)

    def answer(self, output: Float[Tensor, " b *out"]) -> Float[Tensor, " b *shape"]:
        """What of the network's output answers for the target."""
        return output

    def further_loss(
        self,
        output: Float[Tensor, " b *out"],
        x: Float[Tensor, " b *shape"],
        preconditioning: Preconditioning,
        x0: Float[Tensor, " b *shape"],
        t: Float[Tensor, " b"],
        schedule: Schedule,
    ) -> Float[Tensor, " b"]:
        """What each sample's loss asks for beside the target: nothing, as a rule."""
        return x0.new_zeros(len(x0))

    def preconditioning(self, t: Float[Tensor, " *b"], level: NoiseLevel) -> Preconditioning:
        """The inputs' scale and time, and the 2x2 solve of (x, output) for (x0, eps)."""
        p, q = self.coefficients(level)
        det = level.alpha * q - level.sigma * p
        return Preconditioning(
            c_in=self.c_in(level),
            c_noise=self.c_noise(t, level),
            x0=(q / det, -level.sigma / det),
            eps=(-p / det, level.alpha / det),
        )

    def predict(
        self,
        output: Float[Tensor, " b *out"],
        x: Float[Tensor, " b *shape"],
        preconditioning: Preconditioning,
    ) -> Prediction:
        """The pair (x0, eps) that explains both the noised sample `x` and the network's output."""
        return Prediction(
            x0=combine(preconditioning.x0[0], x, preconditioning.x0[1], output),
            eps=combine(preconditioning.eps[0], x, preconditioning.eps[1], output),
        )

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule on which the target determines nothing.

        Raises:
            ValueError: The 2x2 system is singular at the noisiest time.
        """
        # Not >=: where there is no signal, a determinant may be a NaN.
        if not float(self.determinant(schedule.level(torch.tensor(1.0))).abs()) >= 1e-12:
            raise ValueError(
                f"{type(self).__name__} cannot be solved for x0 at t = 1 of "
                f"{type(schedule).__name__}, where no signal is left; use v or x0"
            )


class Eps(Parameterization):
    """The network predicts the noise (Ho et al. 2020).

    Args:
        num_times: Entries of the table whose numbers the network was trained to see as time.
    """

    def __init__(self, num_times: int = 1000) -> None:
        positive_int(num_times=num_times)
        self.num_times = num_times

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


class EDM(Parameterization):
    """The preconditioned denoiser of EDM (Karras et al. 2022, table 1).

    With s = sigma / alpha, on any schedule,
    x0 = c_skip x / alpha + c_out F(c_in x / alpha, ln(s) / 4), so that input and target of the
    network F have unit variance at every noise level.

    Args:
        data_std: Standard deviation of the data; 1 for normalised latents, .5 for images.
    """

    def __init__(self, data_std: float = 1.0) -> None:
        positive(data_std=data_std)
        self.data_std = data_std

    def coefficients(self, level: NoiseLevel) -> Coefficients:
        """((1 - c_skip) / c_out, -c_skip s / c_out)."""
        s = level.sigma / level.alpha
        total = s.square() + self.data_std**2
        skip, out = self.data_std**2 / total, s * self.data_std / total.sqrt()
        return (1 - skip) / out, -skip * s / out

    def c_in(self, level: NoiseLevel) -> Float[Tensor, " *b"]:
        """c_in / alpha = 1 / sqrt(sigma² + alpha² data_std²)."""
        return torch.hypot(level.sigma, level.alpha * self.data_std).reciprocal()

    def c_noise(self, t: Float[Tensor, " *b"], level: NoiseLevel) -> Float[Tensor, " *b"]:
        """ln(s) / 4."""
        return -level.log_snr / 8
