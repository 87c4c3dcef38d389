"""The adversary: a patch discriminator, its delayed start and its balanced weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ldmlab.autoencoding.losses import adaptive_weight, hinge_loss, vanilla_loss
from ldmlab.core.ranges import natural, non_negative, one_of

AdversarialLoss = Literal["hinge", "vanilla"]


@dataclass(frozen=True)
class AdversaryTerms:
    """Both losses for one batch.

    Attributes:
        generator: What the autoencoder minimises, weighted.
        discriminator: What the discriminator minimises.
        weight: The adaptive weight.
        real: Mean logit of images.
        fake: Mean logit of reconstructions.
    """

    generator: Float[Tensor, ""]
    discriminator: Float[Tensor, ""]
    weight: Float[Tensor, ""]
    real: Float[Tensor, ""]
    fake: Float[Tensor, ""]


class Adversary(nn.Module):
    """A discriminator trained against the autoencoder, both from one backward pass.

    The autoencoder's term sees the discriminator's weights as constants and the discriminator's
    term sees the reconstruction as a constant, so the gradient of their sum is each one's own.

    Args:
        discriminator: Judges patches of images.
        start: Number of steps before adversarial training begins.
        weight: Weight of the adversarial term beside the adaptive one.
        loss: The discriminator's; the autoencoder maximises the mean logit under either.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        start: int = 50_001,
        weight: float = 0.5,
        loss: AdversarialLoss = "hinge",
    ) -> None:
        super().__init__()
        natural(start=start)
        non_negative(weight=weight)
        one_of(AdversarialLoss)(loss=loss)
        self.loss = hinge_loss if loss == "hinge" else vanilla_loss
        self.discriminator = discriminator
        self.start = start
        self.weight = weight

    def zero_loss(self) -> Float[Tensor, ""]:
        """A zero that every parameter takes part in, for the steps before it has started.

        Distributed training waits for a gradient of each parameter.
        """
        return 0 * torch.stack([p.sum() for p in self.discriminator.parameters()]).sum()

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        reconstruction: Float[Tensor, "b c h w"],
        likelihood: Float[Tensor, ""],
        last_layer: Tensor,
        average: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> AdversaryTerms:
        """Both terms for a batch.

        Args:
            image: What the discriminator should call real.
            reconstruction: What it should not, with the autoencoder's graph.
            likelihood: The autoencoder's other loss, which the adversary is balanced with.
            last_layer: The decoder's last weights.
            average: Averages a gradient over processes.
        """
        frozen = {k: p.detach() for k, p in self.discriminator.named_parameters()}
        adversarial = -functional_call(self.discriminator, frozen, (reconstruction,)).mean()
        balance = adaptive_weight(likelihood, adversarial, last_layer, average)
        real = self.discriminator(image)
        fake = self.discriminator(reconstruction.detach())
        return AdversaryTerms(
            generator=self.weight * balance * adversarial,
            discriminator=self.loss(real, fake),
            weight=balance,
            real=real.detach().mean(),
            fake=fake.detach().mean(),
        )
