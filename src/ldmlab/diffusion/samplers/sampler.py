"""The interface of every sampler, and the lists of times it steps through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.schedule import Schedule

OnStep = Callable[[int, Tensor], None]
Spacing = Literal["trailing", "linspace"]


@dataclass(frozen=True)
class Sampler(ABC):
    """Turns noise into a sample by calling a denoiser at falling times.

    Args:
        steps: Number of denoiser calls, at least 1.
        spacing: `trailing` divides [0, 1] evenly; `linspace` takes the table entries
            round(linspace(0, T - 1, steps)). Both end at t = 0.

    Raises:
        ValueError: `steps` is below 1.
    """

    steps: int = 50
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a sampler needs at least one step, not steps={self.steps}")

    def times(self, schedule: Schedule) -> Float[Tensor, " n"]:
        """The `steps` + 1 times from noise to data, in float64 on the CPU."""
        if self.spacing == "linspace" and schedule.num_steps is not None:
            last = schedule.num_steps - 1
            entries = torch.linspace(last, 0, self.steps, dtype=torch.float64).round()
            return torch.cat([(entries + 1) / schedule.num_steps, torch.zeros(1)])
        return torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)

    @abstractmethod
    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, "b *shape"],
        times: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """Carry `x` from times[0] to times[-1].

        Args:
            denoiser: The model, guided or not.
            x: Samples at times[0].
            times: Falling times on the CPU; may start below 1 (image to image).
            schedule: Noise level as a function of time.
            noise: Source of the noise that a stochastic sampler adds.
            on_step: Called with the number of steps done and the samples so far.

        Returns:
            The samples at times[-1].
        """
