"""Distributions of the training times."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.schedule import Schedule


class TrainingTimes(ABC):
    """Draws the time at which each training sample is noised."""

    @abstractmethod
    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, "b *shape"]
    ) -> Float[Tensor, " b"]:
        """One time in (0, 1] for each row of `like`, in float64 on its device."""


class Uniform(TrainingTimes):
    """t ~ U{1/T, 2/T, …, 1} on a table of T steps, U(0, 1) on a formula."""

    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, "b *shape"]
    ) -> Float[Tensor, " b"]:
        """Uniform times."""
        u = noise.uniform(_scalars(like))
        if schedule.num_steps is None:
            return u
        return ((u * schedule.num_steps).floor() + 1) / schedule.num_steps


class LogitNormal(TrainingTimes):
    """t = sigmoid(N(mean, std²)): most work on the middle noise levels (Esser et al. 2024).

    Args:
        mean: Centre of the normal distribution; above 0 favours noisier times.
        std: Its standard deviation.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean = mean
        self.std = std

    def __call__(
        self, schedule: Schedule, noise: Noise, like: Float[Tensor, "b *shape"]
    ) -> Float[Tensor, " b"]:
        """Logit-normal times."""
        return torch.sigmoid(self.mean + self.std * noise.normal(_scalars(like)))


def _scalars(like: Tensor) -> Tensor:
    return like.new_empty(len(like), dtype=torch.float64)
