"""A model whose answer is the number of its class, so that every sum can be done by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmlab.autoencoding.codec import Codec
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.core.random import Noise
from ldmlab.core.records import Conditioning, LatentMoments
from ldmlab.diffusion.parameterization import X0
from ldmlab.diffusion.process import Denoiser, DiffusionProcess
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule, cosine
from ldmlab.diffusion.timestep_sampler import TimeDraw, TimestepSampler
from ldmlab.diffusion.weighting import Unit
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion


class HalfCodec(Codec):
    """Halves the size and the values; its posterior has a deviation of its own."""

    learned = False

    def __init__(self, std: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        self.latent_channels, self.factor, self.std = channels, 2, std

    def encode(self, image: Tensor) -> LatentMoments:
        mean = F.avg_pool2d(image, 2) / 2
        return LatentMoments(mean, torch.full_like(mean, self.std))

    def decode(self, z: Tensor) -> Tensor:
        return 2 * F.interpolate(z, scale_factor=2.0)


class At(TimestepSampler):
    """One time for all samples."""

    def __init__(self, t: float) -> None:
        self.t = t

    def __call__(self, schedule: Schedule, noise: Noise, like: Tensor) -> TimeDraw:
        t = torch.full((len(like),), self.t, dtype=torch.float64)
        return TimeDraw(t=t, weight=torch.ones_like(t))


class Numbers(ConditionalNetwork):
    """Says that x0 is the number of the class; keeps what it was asked."""

    def __init__(self, numbers: list[float], null: float | None) -> None:
        nn.Module.__init__(self)
        rows = numbers if null is None else [*numbers, null]
        self.conditioner = ClassConditioner(len(numbers), 1, null_class=null is not None)
        self.conditioner.embedding.weight = nn.Parameter(torch.tensor(rows)[:, None])
        self.seen: list[Tensor] = []
        self.told: list[Tensor] = []

    def forward(self, x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.tokens is not None
        number = conditioning.tokens[:, 0, 0]
        self.seen.append(x.detach())
        self.told.append(number.detach())
        return number[:, None, None, None].expand_as(x)


def model(
    numbers: list[float],
    null: float | None = 5.0,
    codec: Codec | None = None,
    schedule: Schedule | None = None,
    t: float = 0.5,
    condition_dropout: float = 0.1,
) -> LatentDiffusion:
    process = DiffusionProcess(schedule or cosine(), X0(), Unit(), At(t))
    network = Numbers(numbers, null)
    return LatentDiffusion(codec or HalfCodec(), network, process, condition_dropout)


@dataclass(frozen=True)
class Recorder(Sampler):
    """Makes no steps, and remembers where it was to begin."""

    starts: list[Tensor] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        timesteps: Tensor,
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        self.starts.append(x)
        self.times.append(timesteps)
        return x
