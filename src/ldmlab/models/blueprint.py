"""The parts of an experiment on the `meta` device: all sizes, no memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.codec import Codec
from ldmlab.core.records import Batch, DataSpec
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.models.cost import Cost, count_parameters, measure
from ldmlab.models.latent_diffusion import ConditionalNetwork


@dataclass(frozen=True)
class Training:
    """The numbers of a stage's training.

    Attributes:
        lr: Learning rate.
        batch_size: Images in a step, on all devices together.
        max_steps: Steps to its end.
        precision: Of its numbers, in Lightning's words.
    """

    lr: float
    batch_size: int
    max_steps: int
    precision: str

    @property
    def lr_an_image(self) -> float:
        """Learning rate for one image in the batch."""
        return self.lr / self.batch_size


@dataclass(frozen=True)
class Blueprint:
    """The parts of an experiment, without memory behind their weights.

    Attributes:
        name: The experiment's.
        spec: What it says of its data.
        codec: Images to latents and back.
        network: What stage two trains; None for an experiment of stage one alone.
        process: Schedule and parameterisation; None likewise.
        discriminator: Stage one's adversary; None where there is none.
        training: Of the last stage that is trained.
    """

    name: str
    spec: DataSpec
    codec: Codec
    network: ConditionalNetwork | None
    process: DiffusionProcess | None
    discriminator: nn.Module | None
    training: Training

    @property
    def autoencoder(self) -> Autoencoder | None:
        """The codec's autoencoder; None where diffusion works on pixels."""
        found = getattr(self.codec, "autoencoder", None)
        return found if isinstance(found, Autoencoder) else None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        height, width = (side // self.codec.factor for side in self.spec.frame)
        return self.codec.latent_channels, height, width

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Number of weights of each part."""
        parts: dict[str, list[nn.Module]] = {}
        if (ae := self.autoencoder) is not None:
            parts["encoder"] = [ae.encoder]
            parts["bottleneck"] = [ae.bottleneck, ae.post_quant]
            parts["decoder"] = [ae.decoder]
            parts["autoencoder"] = [ae]
        if self.discriminator is not None:
            parts["discriminator"] = [self.discriminator]
        if self.network is not None:
            parts["unet"] = [self.network.backbone]
            parts["conditioner"] = [self.network.conditioner]
            parts["network"] = [self.network]
        return {name: count_parameters(modules) for name, modules in parts.items()}

    @property
    def stage(self) -> str:
        """The last stage that is trained, `autoencoder` or `diffusion`."""
        return "autoencoder" if self.network is None else "diffusion"

    @property
    def alpha_bar(self) -> float | None:
        """Share of the signal's variance left at t = 1; None without a stage two."""
        if self.process is None:
            return None
        end = self.process.schedule.level(torch.ones((), dtype=torch.float64))
        return float(end.alpha.square())

    def cost(self, part: str) -> Cost:
        """Cost of a forward pass of a part, for one image: a key of `calls`."""
        weights = [*self.codec.parameters(), *(self.network.parameters() if self.network else ())]
        return measure(self.calls[part], weights)

    @cached_property
    def calls(self) -> dict[str, Callable[[], Any]]:
        """A forward pass of each part for one image: encode, decode, conditioner, unet."""
        calls: dict[str, Callable[[], Any]] = {}
        image = torch.empty(1, self.spec.image_channels, *self.spec.frame, device="meta")
        latent = torch.empty(1, *self.latent_shape, device="meta")
        if (ae := self.autoencoder) is not None:
            calls["encode"] = lambda: ae.encode(image).moments()
            calls["decode"] = lambda: ae.decode(latent)
        if (network := self.network) is not None:
            conditioner = network.conditioner
            condition = conditioner.select(self._example()).to("meta")
            calls["conditioner"] = lambda: conditioner(condition)
            conditioning = conditioner(condition)
            time = torch.zeros(1, device="meta")
            calls["unet"] = lambda: network(latent, time, conditioning)
        return calls

    def _example(self) -> Batch:
        """One sample with every kind of condition; conditioners check its values."""
        frame, channels = self.spec.frame, self.spec.image_channels
        return Batch(
            index=torch.zeros(1, dtype=torch.long),
            image=torch.zeros(1, channels, *frame),
            label=torch.zeros(1, dtype=torch.long),
            mask=torch.zeros(1, *frame, dtype=torch.long),
            caption=("",),
        )
