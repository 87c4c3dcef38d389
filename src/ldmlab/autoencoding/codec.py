"""The codec: a frozen autoencoder whose latents have zero mean and unit variance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import LatentMoments
from ldmlab.core.tensors import state_hash, without_autocast


class Codec(nn.Module, ABC):
    """Images to the space in which diffusion works, and back.

    Attributes:
        latent_channels: Channels of that space.
        factor: How much smaller it is than the images, a side.
        learned: Whether stage one trains it.
    """

    latent_channels: int
    factor: int
    learned: ClassVar[bool]

    @abstractmethod
    def encode(self, image: Float[Tensor, "b c h w"]) -> LatentMoments:
        """Normalised latents of images in [-1, 1]."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Images of normalised latents."""

    def reconstruct(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """What is left of images after encoding and decoding, without a draw."""
        return self.decode(self.encode(image).mean)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that name these weights and this normalisation."""
        return state_hash(self.state_dict())


class IdentityCodec(Codec):
    """No codec: diffusion in pixel space.

    Args:
        channels: Channels of the images.
    """

    learned = False

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        positive_int(channels=channels)
        self.latent_channels = channels
        self.factor = 1

    def encode(self, image: Float[Tensor, "b c h w"]) -> LatentMoments:
        """The image itself."""
        return LatentMoments.without_spread(image)

    def decode(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h w"]:
        """The image itself."""
        return z


class NormalizedCodec(Codec):
    """An autoencoder, frozen and in evaluation mode for good, with normalised latents.

    It computes in its own precision under mixed precision too: the error of 16 bits would be part
    of the data that the diffusion model learns.

    Args:
        autoencoder: The trained autoencoder.
    """

    learned = True
    shift: Float[Tensor, "z 1 1"]
    scale: Float[Tensor, "z 1 1"]

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.latent_channels = autoencoder.bottleneck.latent_channels
        self.factor = autoencoder.factor
        self.register_buffer("shift", torch.zeros(self.latent_channels, 1, 1))
        self.register_buffer("scale", torch.ones(self.latent_channels, 1, 1))

    @torch.no_grad()
    def normalize_on(self, images: Iterable[Float[Tensor, "b c h w"]]) -> None:
        """Set shift and scale so that the latents of `images` have mean 0 and deviation 1.

        Args:
            images: Batches in [-1, 1].

        Raises:
            ValueError: There are no images.
        """
        moments = [self._moments(image) for image in images]
        if not moments:
            raise ValueError("latents cannot be normalised on no images")
        mean = torch.cat([m.mean for m in moments]).double()
        second = mean.square() + torch.cat([m.std for m in moments]).double().square()
        shift = mean.mean((0, 2, 3))
        variance = second.mean((0, 2, 3)) - shift.square()
        self.shift.copy_(shift[:, None, None])
        self.scale.copy_(variance.sqrt()[:, None, None])

    @property
    def normalization(self) -> dict[str, list[float]]:
        """`shift` and `scale` of each channel, as plain numbers without a loss."""
        return {"shift": self.shift.flatten().tolist(), "scale": self.scale.flatten().tolist()}

    def normalize_as(self, shift: Sequence[float], scale: Sequence[float]) -> None:
        """Set shift and scale to those of another codec.

        Args:
            shift: Mean of the latents, a number a channel.
            scale: Their deviation, a number a channel.

        Raises:
            ValueError: There are not as many numbers as channels.
        """
        for buffer, values in ((self.shift, shift), (self.scale, scale)):
            if len(values) != self.latent_channels:
                raise ValueError(f"{len(values)} numbers for {self.latent_channels} channels")
            buffer.copy_(torch.tensor(values)[:, None, None])

    @torch.no_grad()
    def encode(self, image: Float[Tensor, "b c h w"]) -> LatentMoments:
        """Normalised latents of images in [-1, 1]."""
        moments = self._moments(image)
        return LatentMoments((moments.mean - self.shift) / self.scale, moments.std / self.scale)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Images of normalised latents."""
        with without_autocast(z):
            return self.autoencoder.decode(z * self.scale + self.shift)

    def _moments(self, image: Float[Tensor, "b c h w"]) -> LatentMoments:
        with without_autocast(image):
            return self.autoencoder.moments(image)

    def train(self, mode: bool = True) -> NormalizedCodec:
        """Stay in evaluation mode, whatever a trainer asks for."""
        return super().train(False)
