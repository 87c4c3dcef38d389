"""The interface of every evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.ranges import natural
from ldmlab.core.records import DataSpec
from ldmlab.core.tensors import first_not_finite
from ldmlab.diffusion.guidance import Guidance
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.models.latent_diffusion import LatentDiffusion

Metric = dict[str, Any]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """What is judged: a model and the way it is sampled.

    Attributes:
        model: The model, in evaluation mode.
        spec: What it knows of its data.
        sampler: The steps from noise to data.
        guidance: How the condition is strengthened.
        seed: Seed of the noise.
    """

    model: LatentDiffusion
    spec: DataSpec
    sampler: Sampler
    guidance: Guidance
    seed: int

    @torch.no_grad()
    def reconstruct(
        self, images: Float[Tensor, "b c h w"], batch_size: int = 64
    ) -> Float[Tensor, "b c h w"]:
        """What the model's codec makes of images, clipped to [-1, 1].

        Args:
            images: Pixels in [-1, 1], on the CPU as the result.
            batch_size: How many are encoded at once.

        Raises:
            UserError: What comes back of an image is not finite.
        """
        codec, device = self.model.codec, self.model.device
        parts = [codec.reconstruct(part.to(device)).cpu() for part in images.split(batch_size)]
        mirrored = torch.cat(parts)
        row = first_not_finite(mirrored)
        if row is not None:
            raise UserError(
                f"the codec makes numbers that are not finite of image {row}: train the "
                "autoencoder with a lower lr, or name another with codec.run="
            )
        return mirrored.clamp(-1, 1)


class Evaluation(ABC):
    """Judges a model's samples."""

    @abstractmethod
    def __call__(self, subject: Subject, on_progress: OnProgress) -> dict[str, Metric]:
        """Metrics by name, each a table with a `value` and what the value rests on.

        A `warning` in a table says why its value means less than its name.

        Args:
            subject: What is judged.
            on_progress: Called with the samples drawn so far and in all.

        Raises:
            UserError: The subject is none for this judge, or draws what cannot be judged.
        """

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What must be alike for two cards to be compared: data, judges by hash, preprocessing."""


class NoEvaluation(Evaluation):
    """No judge: no sample is drawn and no metric given.

    Args:
        num_samples: What every evaluation can be asked for, as `debug=fast` does; not drawn here.
    """

    def __init__(self, num_samples: int = 0) -> None:
        natural(num_samples=num_samples)
        self.num_samples = num_samples

    def __call__(self, subject: Subject, on_progress: OnProgress) -> dict[str, Metric]:
        """No metrics."""
        return {}

    def protocol(self) -> dict[str, Any]:
        """Nothing was judged."""
        return {"judge": None}
