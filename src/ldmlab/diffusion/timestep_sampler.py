"""Timestep samplers: the distributions that training times are drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.core.random import Noise
from ldmlab.core.ranges import finite, positive, positive_int, share
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class TimeDraw:
    """Training times and what their losses count for.

    Attributes:
        t: One time in (0, 1] a sample, in float64.
        weight: Factor of each sample's loss; 1 unless the distribution only reduces variance.
    """

    t: Float[Tensor, " b"]
    weight: Float[Tensor, " b"]


class TimestepSampler(ABC):
    """Draws the time at which each training sample is noised."""

    @abstractmethod
    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, " b *shape"]
    ) -> TimeDraw:
        """One time for each row of `like`, on its device."""


class Uniform(TimestepSampler):
    """t ~ U{1/T, 2/T, …, 1} on a table of T steps, U(0, 1] on a formula."""

    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, " b *shape"]
    ) -> TimeDraw:
        """Uniform times."""
        return _evenly(schedule, noise.uniform(_scalars(like)))


class Stratified(TimestepSampler):
    """Uniform times, row k of a batch of b from the k-th of b equal parts (Kingma et al. 2021).

    The loss of a batch then varies less. The batch is the global one, whatever processes and
    parts it is taken in.
    """

    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, " b *shape"]
    ) -> TimeDraw:
        """Uniform times, spread over the batch."""
        return _evenly(schedule, noise.strata(_scalars(like)))


class LogitNormal(TimestepSampler):
    """t = sigmoid(N(mean, std²)): most work on the middle noise levels (Esser et al. 2024).

    Args:
        mean: Centre of the normal distribution; above 0 favours noisier times.
        std: Its standard deviation.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        finite(mean=mean)
        positive(std=std)
        self.mean = mean
        self.std = std

    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, " b *shape"]
    ) -> TimeDraw:
        """Logit-normal times."""
        return _plain(torch.sigmoid(self.mean + self.std * noise.normal(_scalars(like))))


class LogNormal(TimestepSampler):
    """ln(sigma / alpha) ~ N(mean, std²), cut to the schedule's range (Karras et al. 2022).

    Args:
        mean: Centre, of the logarithm of the noise relative to the signal.
        std: Its standard deviation.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        finite(mean=mean)
        positive(std=std)
        self.mean = mean
        self.std = std

    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, " b *shape"]
    ) -> TimeDraw:
        """Times of log-normal noise levels."""
        log_sigma = self.mean + self.std * noise.normal(_scalars(like))
        return _plain(schedule.time(-2 * log_sigma))


class LossSecondMoment(nn.Module, TimestepSampler):
    """p(t) in proportion to the root mean square of the last losses there (Nichol & Dhariwal 2021).

    Uniform until every bin of [0, 1] has `history` losses. The losses are weighted by 1 / p(t),
    so that the expected gradient is that of uniform times. The history lies in buffers, for
    checkpoints to carry, and is fed through `observe`.

    Args:
        bins: Parts of [0, 1] with a history of their own.
        history: Losses remembered in each bin.
        uniform_share: Share of the draws that stays uniform.
    """

    losses: Tensor
    count: Tensor

    def __init__(self, bins: int = 50, history: int = 10, uniform_share: float = 0.001) -> None:
        super().__init__()
        positive_int(bins=bins, history=history)
        share(uniform_share=uniform_share)
        self.uniform_share = uniform_share
        self.register_buffer("losses", torch.zeros(bins, history, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(bins, dtype=torch.int64))

    def forward(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, " b *shape"]
    ) -> TimeDraw:
        """Times from the bins whose losses are large or spread."""
        mass = self.probabilities().to(like.device)
        u = noise.uniform(_scalars(like))
        edges = mass.cumsum(0)
        found = torch.searchsorted(edges, u * edges[-1], right=True).clamp(max=len(mass) - 1)
        inside = (u * edges[-1] - (edges[found] - mass[found])) / mass[found]
        uniform = _evenly(schedule, ((found + inside) / len(mass)).clamp(0, 1 - 1e-12))
        return TimeDraw(t=uniform.t, weight=1 / (len(mass) * mass[found]))

    def probabilities(self) -> Float[Tensor, " bins"]:
        """Probability of each bin."""
        bins, history = self.losses.shape
        even = torch.full_like(self.losses[:, 0], 1 / bins)
        root = self.losses.square().mean(1).sqrt()
        full = (self.count >= history).all() & (root.sum() > 0)
        learned = root / root.sum() * (1 - self.uniform_share) + even * self.uniform_share
        return torch.where(full, learned, even)

    def observe(self, t: Float[Tensor, " b"], loss: Float[Tensor, " b"]) -> None:
        """Put each unweighted loss in the place of its bin's oldest.

        Hand over those of all processes alike, in one order.
        """
        bins, history = self.losses.shape
        finite = loss.isfinite()
        values = loss[finite].to(self.losses)
        where, order = _bin_of(t[finite], bins).to(self.count.device).sort(stable=True)
        new = torch.bincount(where, minlength=bins)
        rank = torch.arange(len(where), device=where.device) - (new.cumsum(0) - new)[where]
        # Of more than a bin remembers, the last ones: each place is written once.
        last = rank >= new[where] - history
        place = (self.count[where] + rank) % history
        self.losses[where[last], place[last]] = values[order][last]
        self.count += new


def _bin_of(t: Tensor, bins: int) -> Tensor:
    # Times of a table end their interval: t = 1/T belongs to the first bin, t = 1 to the last.
    return ((t * bins).ceil().long() - 1).clamp(0, bins - 1)


def _evenly(schedule: Schedule, u: Tensor) -> TimeDraw:
    """Times for uniform numbers in [0, 1): entries of a table, or all of (0, 1]."""
    if schedule.num_steps is None:
        return _plain(u.clamp(min=1e-12))
    return _plain(((u * schedule.num_steps).floor() + 1) / schedule.num_steps)


def _plain(t: Tensor) -> TimeDraw:
    return TimeDraw(t=t, weight=torch.ones_like(t))


def _scalars(like: Tensor) -> Tensor:
    return like.new_empty(len(like), dtype=torch.float64)
