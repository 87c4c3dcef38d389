"""Latent diffusion: codec, conditioner, network and process as one model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.autoencoding.codec import Codec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.image_size import ImageSize, height_and_width
from ldmlab.core.random import Noise
from ldmlab.core.ranges import probability
from ldmlab.core.records import Batch, Conditioning, LossTerms, Prediction
from ldmlab.diffusion.guidance import Guidance, NoGuidance, compose
from ldmlab.diffusion.process import Denoiser, DiffusionProcess
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.nn.unet import UNet


class ConditionalNetwork(nn.Module):
    """A U-Net and its conditioner: everything that stage two trains.

    Args:
        backbone: The network; its input channels count the conditioner's maps.
        conditioner: Embeds the condition; trained with the network.
    """

    def __init__(self, backbone: UNet, conditioner: Conditioner) -> None:
        super().__init__()
        # Convolutions over few pixels and many channels are faster with the channels last.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.conditioner = conditioner

    def forward(
        self, x: Float[Tensor, "b z h w"], time: Float[Tensor, " b"], conditioning: Conditioning
    ) -> Float[Tensor, "b out h w"]:
        """The network's output for noised latents under a conditioning."""
        if conditioning.maps is not None:
            x = torch.cat([x, conditioning.maps.to(x.dtype)], dim=1)
        return self.backbone(x, time, tokens=conditioning.tokens, vector=conditioning.vector)


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
        probability(condition_dropout=condition_dropout)
        self.codec = codec
        self.network = network
        self.process = process
        self.condition_dropout = condition_dropout
        # Times that learn from the losses travel with the checkpoints.
        self.timestep_sampler = (
            process.timestep_sampler if isinstance(process.timestep_sampler, nn.Module) else None
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.network.parameters()).device

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
        # A cache stores latents with fewer bits than what is computed on.
        width = next(self.network.parameters()).dtype
        mean, std = moments.mean.to(width), moments.std.to(width)
        z = mean + std * noise.normal(mean)
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
        image_size: ImageSize,
        sampler: Sampler,
        noise: Noise,
        guidance: Guidance | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Draw one image for each condition.

        Args:
            conditions: A batch without images; its length is the number of samples.
            image_size: Side in pixels, or height and width, multiples of the codec's factor.
            sampler: The steps from noise to data.
            noise: Row k of everything random belongs to sample k.
            guidance: How to strengthen the condition; the model as trained by default.
            on_step: Called with the number of steps done and the latents so far.

        Returns:
            Images, about in [-1, 1].

        Raises:
            UserError: The batch lacks the condition that the model needs.
        """
        denoiser = self.guided(conditions, guidance)
        return self.draw(denoiser, len(conditions), image_size, sampler, noise, on_step)

    @torch.no_grad()
    def guided(
        self,
        conditions: Batch,
        guidance: Guidance | None = None,
        also: Sequence[Batch] = (),
        negative: Batch | None = None,
        autoguidance: LatentDiffusion | None = None,
    ) -> Denoiser:
        """The denoiser of latents that a sampler follows.

        Args:
            conditions: The condition of each sample.
            guidance: How to strengthen it; the model as trained by default.
            also: Further conditions of each sample, all to hold at once (Liu et al. 2022).
            negative: What to be guided away from, in the place of no condition.
            autoguidance: A worse model over the same codec and schedule, under the same
                conditions, to be guided away from (Karras et al. 2024).

        Raises:
            ValueError: Both `negative` and `autoguidance` are given.
            UserError: A batch lacks the condition that the model needs.
        """
        if negative is not None and autoguidance is not None:
            raise ValueError("guide away from a condition or from a weak network, not from both")
        condition = self._selected(conditions)
        null = self._denoiser(condition, known=False)
        wanted = self._denoiser(condition)
        if also:
            parts = [wanted, *(self._denoiser(self._selected(further)) for further in also)]
            wanted = compose(parts, null, [1.0] * len(parts))
        against = null
        if negative is not None:
            against = self._denoiser(self._selected(negative))
        elif autoguidance is not None:
            against = autoguidance.guided(conditions, also=also)
        return (guidance or NoGuidance())(wanted, against, self.process.schedule)

    @torch.no_grad()
    def draw(
        self,
        denoiser: Denoiser,
        count: int,
        image_size: ImageSize,
        sampler: Sampler,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Carry noise to images with a denoiser of `count` latents; otherwise as `sample`."""
        height, width = height_and_width(image_size)
        factor = self.codec.factor
        timesteps = sampler.timesteps(self.process.schedule)
        like = torch.empty(
            count,
            self.codec.latent_channels,
            height // factor,
            width // factor,
            device=self.device,
        )
        start = noise.normal(like) * float(self.process.schedule.level(timesteps[0]).scale)
        return self.codec.decode(
            sampler(denoiser, start, timesteps, self.process.schedule, noise, on_step)
        )

    def _selected(self, conditions: Batch) -> Tensor:
        """The condition of each sample: for a frozen text encoder, a pass through it."""
        return self.network.conditioner.select(conditions.to(self.device))

    def _denoiser(self, condition: Tensor, known: bool = True) -> Denoiser:
        """The network under conditions, or under null conditions in their place."""
        conditioner = self.network.conditioner

        # Made when guidance asks for it: a model without guidance may have no null condition.
        @cache
        def conditioning() -> Conditioning:
            return conditioner(condition if known else conditioner.null(condition))

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            return self.process.denoiser(self.network, conditioning())(x, t)

        return denoise
