"""Latent diffusion: codec, conditioner, network and process as one model."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.autoencoding.codec import Codec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.random import Noise
from ldmlab.core.records import Batch, Conditioning, LossTerms, Prediction
from ldmlab.diffusion.guidance import Guidance, NoGuidance
from ldmlab.diffusion.process import Denoiser, DiffusionProcess
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.nn.unet import UNet


class ConditionalNetwork(nn.Module):
    """A U-Net and its conditioner: everything that stage two trains.

    Args:
        unet: The network; its input channels count the conditioner's maps.
        conditioner: Embeds the condition; trained with the network.
    """

    def __init__(self, unet: UNet, conditioner: Conditioner) -> None:
        super().__init__()
        # Convolutions over few pixels and many channels are faster with the channels last.
        self.unet = unet.to(memory_format=torch.channels_last)
        self.conditioner = conditioner

    def forward(
        self, x: Float[Tensor, "b z h w"], time: Float[Tensor, " b"], conditioning: Conditioning
    ) -> Float[Tensor, "b out h w"]:
        """The network's output for noised latents under a conditioning."""
        if conditioning.maps is not None:
            x = torch.cat([x, conditioning.maps.to(x.dtype)], dim=1)
        return self.unet(x, time, tokens=conditioning.tokens, vector=conditioning.vector)


class LatentDiffusion(nn.Module):
    """A diffusion model in the latent space of a frozen codec (Rombach et al. 2022).

    Args:
        codec: Images to latents and back, frozen.
        network: What is trained.
        process: Schedule, parameterisation, weighting and training times.
        condition_dropout: Share of the training samples that lose their condition, so that
            classifier-free guidance can be used.
    """

    def __init__(
        self,
        codec: Codec,
        network: ConditionalNetwork,
        process: DiffusionProcess,
        condition_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.codec = codec
        self.network = network
        self.process = process
        self.condition_dropout = condition_dropout
        # What the process remembers of its losses travels with the checkpoints.
        self.loss_history = getattr(process.times, "state", None)

    def loss(self, batch: Batch, noise: Noise) -> LossTerms:
        """E ‖eps - eps_theta(z_t, t, tau(y))‖², weighted, for each sample.

        Args:
            batch: Images or cached latents, with the conditions.
            noise: Source of every random number: posterior, dropout, time and noise.

        Raises:
            UserError: The batch lacks the condition that the model needs.
        """
        moments = batch.latent
        if moments is None:
            if batch.image is None:
                raise ValueError("a batch needs an image or a cached latent")
            moments = self.codec.encode(batch.image)
        z = moments.mean + moments.std * noise.normal(moments.mean)
        dropped = noise.uniform(z.new_empty(len(z))) < self.condition_dropout
        conditioner = self.network.conditioner
        condition = conditioner.select(batch)
        if self.condition_dropout > 0:
            condition = conditioner.drop(condition, dropped)
        return self.process.loss(self.network, z, conditioner(condition), noise)

    @torch.no_grad()
    def sample(
        self,
        conditions: Batch,
        image_size: int | tuple[int, int],
        sampler: Sampler,
        noise: Noise,
        guidance: Guidance | None = None,
        weak: ConditionalNetwork | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Draw one image for each condition.

        Args:
            conditions: A batch without images; its length is the number of samples.
            image_size: Height and width in pixels, multiples of the codec's factor.
            sampler: The steps from noise to data.
            noise: Row k of everything random belongs to sample k.
            guidance: How to strengthen the condition; the model as trained by default.
            weak: A worse network to be guided away from, in the place of the unconditional one
                (autoguidance).
            on_step: Called with the number of steps done and the latents so far.

        Returns:
            Images, about in [-1, 1].

        Raises:
            UserError: The batch lacks the condition that the model needs.
        """
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        factor = self.codec.factor
        conditioner = self.network.conditioner
        condition = conditioner.select(conditions)
        schedule = self.process.schedule
        times = sampler.times(schedule)
        like = torch.empty(
            len(conditions),
            self.codec.latent_channels,
            height // factor,
            width // factor,
            device=condition.device,
        )
        start = noise.normal(like) * float(schedule.level(times[0]).scale)

        # Made when guidance asks for it: a model without guidance may have no null condition.
        @cache
        def unconditional() -> Denoiser:
            if weak is not None:
                return self.process.denoiser(weak, weak.conditioner(condition))
            null = conditioner(conditioner.null(condition))
            return self.process.denoiser(self.network, null)

        def against(x: Tensor, t: Tensor) -> Prediction:
            return unconditional()(x, t)

        denoiser = (guidance or NoGuidance())(
            self.process.denoiser(self.network, conditioner(condition)), against, schedule
        )
        z = sampler(denoiser, start, times, schedule, noise, on_step)
        return self.codec.decode(z)
