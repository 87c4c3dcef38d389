"""Schedules: maps from the time t in [0, 1] (0 data, 1 noise) to the noise level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.diffusion.level import NoiseLevel


class Schedule(ABC):
    """A map from time to the noise level.

    Attributes:
        num_steps: Length of the table behind the schedule; None when it is a formula.
    """

    num_steps: int | None = None

    @abstractmethod
    def level(self, t: Float[Tensor, "*b"]) -> NoiseLevel:
        """The noise level at times in [0, 1]; t = 0 is exactly alpha = 1, sigma = 0."""


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
        self.betas = betas
        self.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self._log_snr = {
            betas.device: torch.log(self.alphas_cumprod) - torch.log1p(-self.alphas_cumprod)
        }

    def level(self, t: Float[Tensor, "*b"]) -> NoiseLevel:
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

    def _table_on(self, device: torch.device) -> Tensor:
        if device not in self._log_snr:
            self._log_snr[device] = next(iter(self._log_snr.values())).to(device)
        return self._log_snr[device]


class RectifiedFlow(Schedule):
    """The straight path x_t = (1 - t) x0 + t eps (Liu et al. 2022)."""

    def level(self, t: Float[Tensor, "*b"]) -> NoiseLevel:
        """alpha = 1 - t and sigma = t."""
        t = t.to(torch.float64)
        return NoiseLevel(1 - t, t)


def linear(
    num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> TableSchedule:
    """DDPM's schedule: betas on a straight line (Ho et al. 2020, section 4).

    The "linear" of the latent diffusion paper's tables is `scaled_linear`.
    """
    return TableSchedule(torch.linspace(beta_start, beta_end, num_steps, dtype=torch.float64))


def scaled_linear(
    num_steps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195
) -> TableSchedule:
    """Square roots of the betas on a straight line: what latent diffusion calls linear."""
    roots = torch.linspace(
        math.sqrt(beta_start), math.sqrt(beta_end), num_steps, dtype=torch.float64
    )
    return TableSchedule(roots.square())


def cosine(num_steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> TableSchedule:
    """alpha_bar_t = f(t) / f(0), f(t) = cos²((t/T + s) / (1 + s) pi/2) (Nichol & Dhariwal 2021)."""
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2).square()
    return TableSchedule((1 - f[1:] / f[:-1]).clamp(max=max_beta))
