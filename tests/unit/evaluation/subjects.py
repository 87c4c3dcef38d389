"""Models for evaluations to judge, which draw what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, DataSpec
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.evaluation.protocol import Subject

SAMPLER, GUIDANCE = DDIM(steps=3), ClassifierFree(2.0)


@dataclass
class Drawer:
    """Stands for a model; `draw` makes the images of some conditions.

    Its reconstructions are the images at half of their contrast.
    """

    draw: Callable[[Batch], Tensor]
    input_key: str | None
    conditions: list[Batch] = field(default_factory=list)
    noise: list[Tensor] = field(default_factory=list)

    device = torch.device("cpu")

    def sample(
        self, conditions: Batch, size: int, sampler: Any, noise: SampleNoise, guidance: Any
    ) -> Tensor:
        assert sampler is SAMPLER and guidance is GUIDANCE
        self.conditions.append(conditions)
        self.noise.append(noise.normal(torch.empty(len(conditions), 2)))
        return self.draw(conditions)

    @property
    def network(self) -> Any:
        return SimpleNamespace(conditioner=SimpleNamespace(input_key=self.input_key))

    @property
    def codec(self) -> Any:
        return SimpleNamespace(reconstruct=lambda images: images / 2)


def subject(drawer: Drawer, size: int, channels: int, seed: int = 5) -> Subject:
    """A drawer with the way it is sampled."""
    return Subject(drawer, DataSpec(size, channels), SAMPLER, GUIDANCE, seed)  # type: ignore[arg-type]
