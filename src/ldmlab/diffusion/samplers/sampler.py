"""The interface of every sampler, and the lists of timesteps it steps through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import Noise
from ldmlab.core.ranges import one_of, positive_int
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.schedule import Schedule

OnStep = Callable[[int, Tensor], None]
Spacing = Literal["trailing", "linspace", "leading", "leading_plus_one"]
Final = Literal["data", "first_entry"]


@dataclass(frozen=True)
class Sampler(ABC):
    """Turns noise into a sample by calling a denoiser at falling timesteps.

    Args:
        steps: Steps from noise to data, at least 1; each is one denoiser call, unless a sampler
            says otherwise.
        spacing: `trailing` divides [0, 1] evenly. `linspace` takes the table entries
            round(linspace(0, T - 1, steps)), or the even division of [first_time, 1] of a
            formula. `leading` takes entries 0, c, 2c, … with c = T // steps, and
            `leading_plus_one` all of 1, 1 + c, … < T + 1, as published with latent diffusion:
            their number exceeds `steps` where T does not divide by it.
        final: Where the list ends: at the `data`, or at the `first_entry` of the table, as
            published with latent diffusion. The step to the data is of first order in every
            solver; where the last noise is large beside the data's details, as of few trailing
            steps, its error hides that of all others, and samples come out too narrow.

    Raises:
        ArgumentError: An argument is out of its range, here and in every sampler.
    """

    steps: int = 50
    spacing: Spacing = "trailing"
    final: Final = "data"

    def __post_init__(self) -> None:
        positive_int(steps=self.steps)
        one_of(Spacing)(spacing=self.spacing)
        one_of(Final)(final=self.final)

    def timesteps(self, schedule: Schedule, start: float = 1.0) -> Float[Tensor, " n"]:
        """The falling timesteps from noise to data, in float64 on the CPU.

        Args:
            schedule: Noise level as a function of time.
            start: Largest time to keep; below 1 for image to image.

        Raises:
            UserError: The steps or their spacing do not fit the schedule, or nothing is left
                below `start`.
        """
        count = schedule.num_steps
        if count is not None and self.steps > count:
            raise UserError(
                f"sampler.steps={self.steps} exceeds the table of schedule.num_steps={count}: "
                f"use at most {count} steps"
            )
        if self.spacing == "trailing":
            timesteps = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)[:-1]
        elif self.spacing == "linspace" and count is None:
            timesteps = torch.linspace(1, schedule.first_time, self.steps, dtype=torch.float64)
        elif count is None:
            raise UserError(
                f"spacing={self.spacing} picks entries of a table and {type(schedule).__name__} "
                f"is a formula: use trailing or linspace"
            )
        else:
            timesteps = (self._entries(count).flip(0) + 1) / count
        end = schedule.first_time if self.final == "first_entry" else 0.0
        kept = timesteps[(timesteps <= start + 1e-9) & (timesteps > end)]
        if len(kept) == 0:
            raise UserError(f"no time of {self.steps} steps lies below start={start}")
        timesteps = torch.cat([kept, torch.tensor([end], dtype=torch.float64)])
        if not bool((schedule.level(timesteps).log_snr.diff() > 0).all()):
            raise UserError(
                f"two of the timesteps of sampler.steps={self.steps} have one noise level on "
                f"{type(schedule).__name__}: use fewer steps or a schedule that falls faster"
            )
        return timesteps

    def _entries(self, count: int) -> Float[Tensor, " n"]:
        """Rising entries of a table of `count` steps."""
        if self.spacing == "linspace":
            return torch.linspace(0, count - 1, self.steps, dtype=torch.float64).round()
        stride = count // self.steps
        if self.spacing == "leading":
            return torch.arange(self.steps, dtype=torch.float64) * stride
        entries = torch.arange(0, count, stride, dtype=torch.float64) + 1
        if entries[-1] >= count:
            raise UserError(
                f"leading_plus_one with steps={self.steps} asks for entry {count} of a table "
                f"whose last is {count - 1}: choose another number of steps, or leading"
            )
        return entries

    @abstractmethod
    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1].

        Args:
            denoiser: The model, guided or not.
            x: Samples at timesteps[0].
            timesteps: Falling times on the CPU; may start below 1 (image to image), and rise for
                a deterministic sampler (inversion).
            schedule: Noise level as a function of time.
            noise: Source of the noise that a stochastic sampler adds.
            on_step: Called with the number of steps done and the samples so far.

        Returns:
            The samples at timesteps[-1].
        """
