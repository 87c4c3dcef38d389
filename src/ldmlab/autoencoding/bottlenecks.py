"""Bottlenecks between encoder and decoder: KL-regularised, or vector-quantised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldmlab.core.random import Noise
from ldmlab.core.ranges import non_negative, positive_int
from ldmlab.core.records import LatentMoments
from ldmlab.core.tensors import without_autocast

_DISTANCES = 2**24
"""Distances held at once: 64 MiB of float32."""


class Latent(ABC):
    """An encoded image, whatever the bottleneck."""

    @abstractmethod
    def sample(self, noise: Noise) -> Float[Tensor, "b z h w"]:
        """What the decoder is trained on."""

    @abstractmethod
    def regularizer(self) -> Float[Tensor, " b"]:
        """The bottleneck's loss for each sample."""

    @abstractmethod
    def moments(self) -> LatentMoments:
        """What a diffusion model is trained on."""

    @abstractmethod
    def sums(self) -> dict[str, Tensor]:
        """Sums over this batch, to be added to those of other batches and processes."""

    @staticmethod
    @abstractmethod
    def summary(sums: Mapping[str, Tensor]) -> dict[str, float]:
        """What added sums say of the bottleneck's health, by name."""


@dataclass(frozen=True)
class Posterior(Latent):
    """A diagonal Gaussian q(z | x).

    Attributes:
        mean: Its mean.
        log_variance: Logarithm of its variance, clamped to [-30, 20].
    """

    mean: Float[Tensor, "b z h w"]
    log_variance: Float[Tensor, "b z h w"]

    @property
    def std(self) -> Float[Tensor, "b z h w"]:
        """Standard deviation."""
        return torch.exp(0.5 * self.log_variance)

    def sample(self, noise: Noise) -> Float[Tensor, "b z h w"]:
        """mean + std eps."""
        return self.mean + self.std * noise.normal(self.mean)

    def regularizer(self) -> Float[Tensor, " b"]:
        """KL(q ‖ N(0, I)) = ½ Σ (mean² + variance - 1 - log variance), in nats."""
        variance = self.log_variance.exp()
        return 0.5 * (self.mean.square() + variance - 1 - self.log_variance).flatten(1).sum(1)

    def moments(self) -> LatentMoments:
        """Mean and deviation."""
        return LatentMoments(self.mean, self.std)

    def sums(self) -> dict[str, Tensor]:
        """For each channel: values, nats of KL, and first and second moments of q(z)."""
        second = self.mean.square() + self.log_variance.exp()
        kl = 0.5 * (second - 1 - self.log_variance)
        over = (0, 2, 3)
        return {
            "count": torch.full_like(kl[0, :, 0, 0], kl[:, 0].numel(), dtype=torch.float64),
            "kl": kl.double().sum(over),
            "first": self.mean.double().sum(over),
            "second": second.double().sum(over),
        }

    @staticmethod
    def summary(sums: Mapping[str, Tensor]) -> dict[str, float]:
        """`kl/00`, … in nats a value of each channel, and the latents' deviation over all."""
        mean, second = sums["first"] / sums["count"], sums["second"] / sums["count"]
        kl = (sums["kl"] / sums["count"]).tolist()
        deviation = (second - mean.square()).mean().sqrt()
        return {f"kl/{c:02d}": nats for c, nats in enumerate(kl)} | {"latent_std": float(deviation)}


@dataclass(frozen=True)
class Quantised(Latent):
    """Features and their nearest codes.

    Attributes:
        prequant: The features before quantisation: what a diffusion model works on.
        quantised: The nearest codes, with the gradient passed straight through.
        indices: Number of each code.
        codebook_loss: Squared distance between codes and features, a mean for each sample.
        num_codes: Number of codes there are.
    """

    prequant: Float[Tensor, "b z h w"]
    quantised: Float[Tensor, "b z h w"]
    indices: Int[Tensor, "b h w"]
    codebook_loss: Float[Tensor, " b"]
    num_codes: int

    def sample(self, noise: Noise) -> Float[Tensor, "b z h w"]:
        """The quantised features; nothing is drawn."""
        return self.quantised

    def regularizer(self) -> Float[Tensor, " b"]:
        """The codebook loss."""
        return self.codebook_loss

    def moments(self) -> LatentMoments:
        """The features before quantisation, without spread."""
        return LatentMoments.without_spread(self.prequant)

    def sums(self) -> dict[str, Tensor]:
        """How often each code was the nearest, and the moments of the features."""
        z = self.prequant.detach().double()
        return {
            "uses": torch.bincount(self.indices.flatten(), minlength=self.num_codes),
            "count": z.new_tensor(z[:, 0].numel()),
            "first": z.sum((0, 2, 3)),
            "second": z.square().sum((0, 2, 3)),
        }

    @staticmethod
    def summary(sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of the codes in use, exp(entropy) of their use, and the features' deviation.

        The share is of all codes, or of as many as there were features.
        """
        uses = sums["uses"].double()
        share = uses / uses.sum()
        mean, second = sums["first"] / sums["count"], sums["second"] / sums["count"]
        return {
            "codes_used": float((uses > 0).sum() / uses.sum().clamp(max=len(uses))),
            "perplexity": float(torch.special.entr(share).sum().exp()),
            "latent_std": float((second - mean.square()).mean().sqrt()),
        }


class Bottleneck(nn.Module, ABC):
    """The narrow middle of an autoencoder.

    Attributes:
        feature_channels: Channels that the encoder must deliver.
        latent_channels: Channels of the latents.
        inner_channels: Channels that the decoder takes, one 1x1 convolution after the latents.
        weight: Weight of the regulariser in the autoencoder's loss.
    """

    feature_channels: int
    latent_channels: int
    inner_channels: int
    weight: float

    @abstractmethod
    def forward(self, features: Float[Tensor, "b c h w"]) -> Latent:
        """Encode the encoder's features."""

    def moments(self, features: Float[Tensor, "b c h w"]) -> LatentMoments:
        """Those of `forward`, without what only stage one asks for."""
        return self(features).moments()

    def project(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Bring sampled latents back to what the decoder was trained on."""
        return z


class KL(Bottleneck):
    """A Gaussian posterior held near N(0, I) (Kingma & Welling 2014).

    Args:
        latent_channels: Channels of the latents.
        weight: Weight of the KL divergence, in the autoencoder's loss per nat.
        inner_channels: Channels inside the two 1x1 convolutions around the latents; as many as
            the latents have by default.
    """

    def __init__(
        self, latent_channels: int = 4, weight: float = 1e-6, inner_channels: int | None = None
    ) -> None:
        super().__init__()
        positive_int(latent_channels=latent_channels)
        non_negative(weight=weight)
        positive_int.or_none(inner_channels=inner_channels)
        self.weight = weight
        self.latent_channels = latent_channels
        self.inner_channels = inner_channels or latent_channels
        self.feature_channels = 2 * self.inner_channels
        self.quant = nn.Conv2d(self.feature_channels, 2 * latent_channels, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Posterior:
        """The posterior of each image."""
        mean, log_variance = self.quant(features).float().chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-30, 20))


class VQ(Bottleneck):
    """Nearest neighbours in a learned codebook (van den Oord et al. 2017).

    Args:
        latent_channels: Channels of the latents.
        num_codes: Number of codes.
        commitment_weight: Weight of the term that pulls features to codes.
        weight: Weight of the codebook loss.
        codebook_weight: Weight of the term that pulls codes to features. The published models have
            a commitment of 1 and an codebook_weight of 0.25: the two weights were exchanged.
        inner_channels: Channels inside the two 1x1 convolutions around the latents; as many as
            the latents have by default.
    """

    def __init__(
        self,
        latent_channels: int = 3,
        num_codes: int = 8192,
        commitment_weight: float = 0.25,
        weight: float = 1.0,
        codebook_weight: float = 1.0,
        inner_channels: int | None = None,
    ) -> None:
        super().__init__()
        positive_int(latent_channels=latent_channels, num_codes=num_codes)
        non_negative(commitment_weight=commitment_weight, codebook_weight=codebook_weight)
        non_negative(weight=weight)
        positive_int.or_none(inner_channels=inner_channels)
        self.weight = weight
        self.latent_channels = latent_channels
        self.inner_channels = inner_channels or latent_channels
        self.feature_channels = self.inner_channels
        self.commitment_weight = commitment_weight
        self.codebook_weight = codebook_weight
        self.quant = nn.Conv2d(self.feature_channels, latent_channels, 1)
        self.codes = nn.Embedding(num_codes, latent_channels)
        nn.init.uniform_(self.codes.weight, -1 / num_codes, 1 / num_codes)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Quantised:
        """Features, codes and the codebook loss."""
        z = self._prequant(features)
        codes, indices = self._nearest(z)
        to_codes = (codes - z.detach()).square().flatten(1).mean(1)
        to_features = (codes.detach() - z).square().flatten(1).mean(1)
        return Quantised(
            prequant=z,
            quantised=z + (codes - z).detach(),
            indices=indices,
            codebook_loss=self.codebook_weight * to_codes + self.commitment_weight * to_features,
            num_codes=self.codes.num_embeddings,
        )

    def moments(self, features: Float[Tensor, "b c h w"]) -> LatentMoments:
        """The features before quantisation: no code is searched for."""
        return LatentMoments.without_spread(self._prequant(features))

    def project(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Replace sampled latents by their nearest codes."""
        return self._nearest(z)[0]

    def _prequant(self, features: Tensor) -> Tensor:
        return self.quant(features).float()

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        flat = z.movedim(1, -1).flatten(0, -2)
        indices = nearest_codes(flat, self.codes.weight).unflatten(0, (len(z), *z.shape[2:]))
        return self.codes(indices).movedim(-1, 1), indices


@torch.no_grad()
def nearest_codes(
    features: Float[Tensor, "n z"], codes: Float[Tensor, "codes z"]
) -> Int[Tensor, " n"]:
    """Number of the code nearest to each feature, some features at a time to save memory."""
    rows = max(1, _DISTANCES // len(codes))
    # In bfloat16 neighbouring codes are equally far.
    with without_autocast(features):
        length = codes.square().sum(1)
        nearest = [(length - 2 * part @ codes.T).argmin(dim=1) for part in features.split(rows)]
    return torch.cat(nearest)
