"""Schedules: maps from the time t in [0, 1] (0 data, 1 noise) to the noise level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import above, at_least, finite, non_negative, positive, positive_int, share
from ldmlab.diffusion.level import NoiseLevel


class Schedule(ABC):
    """A map from time to the noise level.

    Attributes:
        num_steps: Length of the table behind the schedule; None when it is a formula.
        first_time: The earliest time worth stepping to before t = 0: the first entry of a table.
    """

    num_steps: int | None = None
    first_time: float

    @abstractmethod
    def level(self, t: Float[Tensor, " *b"]) -> NoiseLevel:
        """The noise level at times in [0, 1]; t = 0 is exactly alpha = 1, sigma = 0."""

    @abstractmethod
    def time(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """The time of a log signal-to-noise ratio, clipped to [first_time, 1], in float64."""


class TableSchedule(Schedule):
    """A discrete variance-preserving Markov chain, read as a function of continuous time.

    Entry k of the table of T steps lies exactly at t = (k + 1) / T. Between entries the log-SNR
    is linear in t; inside (0, 1/T) the level of the first entry holds.

    Args:
        betas: Variances of the T forward steps, each in (0, 1], as float64.

    Raises:
        ValueError: A variance lies outside (0, 1].
    """

    def __init__(self, betas: Float[Tensor, " T"]) -> None:
        betas = betas.to(torch.float64)
        if not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError("every beta of a schedule must lie in (0, 1]")
        self.num_steps = len(betas)
        self.first_time = 1 / len(betas)
        self.betas = betas
        self.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self._log_snr = {
            betas.device: torch.log(self.alphas_cumprod) - torch.log1p(-self.alphas_cumprod)
        }

    def level(self, t: Float[Tensor, " *b"]) -> NoiseLevel:
        """The noise level at times in [0, 1], interpolated linearly in log-SNR."""
        t = t.to(torch.float64)
        table = self._table_on(t.device)
        position = (t * len(table) - 1).clamp(0, len(table) - 1)
        # A time meant for an entry may miss it by rounding: snap, so that entries are exact.
        nearest = position.round()
        position = torch.where((position - nearest).abs() < 1e-6, nearest, position)
        below = position.floor().long()
        above = position.ceil().long()
        log_snr = torch.lerp(table[below], table[above], position - below)
        log_snr = torch.where(above == below, table[below], log_snr)
        alpha = torch.where(t > 0, torch.sigmoid(log_snr).sqrt(), 1.0)
        sigma = torch.where(t > 0, torch.sigmoid(-log_snr).sqrt(), 0.0)
        return NoiseLevel(alpha, sigma)

    def time(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """The inverse of `level`, linear between entries."""
        falling = self._table_on(log_snr.device)
        wanted = log_snr.to(torch.float64).clamp(float(falling[-1]), float(falling[0]))
        above = torch.searchsorted(-falling, -wanted).clamp(1, len(falling) - 1)
        start, end = falling[above - 1], falling[above]
        share = torch.where(wanted == end, 1.0, (start - wanted) / (start - end))
        return (above + share) / len(falling)

    def _table_on(self, device: torch.device) -> Tensor:
        if device not in self._log_snr:
            self._log_snr[device] = next(iter(self._log_snr.values())).to(device)
        return self._log_snr[device]


class RectifiedFlow(Schedule):
    """The straight path x_t = (1 - t) x0 + t eps (Liu et al. 2022)."""

    first_time = 1e-3

    def level(self, t: Float[Tensor, " *b"]) -> NoiseLevel:
        """alpha = 1 - t and sigma = t."""
        t = t.to(torch.float64)
        return NoiseLevel(1 - t, t)

    def time(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """sigma / (alpha + sigma)."""
        return torch.sigmoid(-log_snr.to(torch.float64) / 2).clamp(self.first_time, 1)


class KarrasVE(Schedule):
    """The variance-exploding path x_t = x0 + sigma eps of EDM (Karras et al. 2022, equation 5).

    sigma = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho for t > 0.

    Args:
        sigma_min: Noise where t falls to 0, in units of the data.
        sigma_max: Noise at t = 1.
        rho: Curvature; larger values spend more of [0, 1] on little noise.

    Raises:
        ArgumentError: Not 0 < sigma_min < sigma_max, or `rho` is not above 0.
    """

    # Not 0, which is the data itself: where sigma is sigma_min to all digits of a float64.
    first_time = 1e-18

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        positive(sigma_min=sigma_min, rho=rho)
        above(sigma_min, "sigma_min")(sigma_max=sigma_max)
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self._low, self._high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)

    def level(self, t: Float[Tensor, " *b"]) -> NoiseLevel:
        """alpha = 1; sigma from `sigma_min` to `sigma_max`, and 0 at t = 0."""
        t = t.to(torch.float64)
        sigma = (self._low + t * (self._high - self._low)) ** self.rho
        return NoiseLevel(torch.ones_like(t), torch.where(t > 0, sigma, 0.0))

    def time(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """The inverse of sigma(t)."""
        root = torch.exp(-log_snr.to(torch.float64) / 2) ** (1 / self.rho)
        return ((root - self._low) / (self._high - self._low)).clamp(self.first_time, 1)


def linear(
    num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> TableSchedule:
    """DDPM's schedule: betas on a straight line (Ho et al. 2020, section 4).

    The "linear" of the latent diffusion paper's tables is `scaled_linear`.
    """
    _check_line(num_steps, beta_start, beta_end)
    return TableSchedule(torch.linspace(beta_start, beta_end, num_steps, dtype=torch.float64))


def scaled_linear(
    num_steps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195
) -> TableSchedule:
    """Square roots of the betas on a straight line: what latent diffusion calls linear."""
    _check_line(num_steps, beta_start, beta_end)
    roots = torch.linspace(
        math.sqrt(beta_start), math.sqrt(beta_end), num_steps, dtype=torch.float64
    )
    return TableSchedule(roots.square())


def _check_line(num_steps: int, beta_start: float, beta_end: float) -> None:
    positive_int(num_steps=num_steps)
    share(beta_start=beta_start, beta_end=beta_end)
    at_least(beta_start, "beta_start")(beta_end=beta_end)


def cosine(num_steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> TableSchedule:
    """alpha_bar_t = f(t) / f(0), f(t) = cos²((t/T + s) / (1 + s) pi/2) (Nichol & Dhariwal 2021)."""
    positive_int(num_steps=num_steps)
    non_negative(offset=offset)
    share(max_beta=max_beta)
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2).square()
    return TableSchedule((1 - f[1:] / f[:-1]).clamp(max=max_beta))


def sigmoid(
    num_steps: int = 1000, start: float = -3.0, end: float = 3.0, temperature: float = 1.0
) -> TableSchedule:
    """alpha_bar_t = (S(end) - S(t)) / (S(end) - S(start)), S a logistic curve (Jabri et al. 2022).

    S runs from `start` to `end` in units of `temperature`; alpha_bar is kept above 1e-9.
    """
    positive_int(num_steps=num_steps)
    finite(start=start)
    above(start, "start")(end=end)
    positive(temperature=temperature)
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    curve = torch.sigmoid((start + t * (end - start)) / temperature)
    alphas_cumprod = ((curve[-1] - curve) / (curve[-1] - curve[0])).clamp(1e-9, 1)
    return TableSchedule(1 - alphas_cumprod[1:] / alphas_cumprod[:-1])


def from_betas(betas: Sequence[float]) -> TableSchedule:
    """A schedule from the variances of its forward steps, each in (0, 1]."""
    return TableSchedule(torch.tensor(betas, dtype=torch.float64))


def zero_terminal_snr(schedule: TableSchedule) -> TableSchedule:
    """The schedule shifted and scaled so that no signal is left at t = 1 (Lin et al. 2023).

    sqrt(alpha_bar) is shifted to end at exactly 0 and scaled to keep its first value. Predict v
    or x0 on it: eps says nothing about x0 at t = 1.
    """
    root = schedule.alphas_cumprod.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    before = torch.cat([torch.ones(1, dtype=torch.float64), root[:-1]])
    return TableSchedule(1 - (root / before).square())
