"""The autoencoder's losses: reconstruction, perception, bottleneck and adversary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.core.ranges import non_negative, one_of

LossType = Literal["l1", "l2"]
Reduction = Literal["sum_pixels", "mean_pixels"]


class NoPerceptual(nn.Module):
    """No perceptual term."""

    def forward(
        self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 1 1 1"]:
        """Zero for each sample."""
        return x.new_zeros(len(x), 1, 1, 1)


@dataclass(frozen=True)
class ReconstructionTerms:
    """The autoencoder's loss without its adversary.

    Attributes:
        likelihood: Reconstruction and perception, reduced: what the adversary is balanced with.
        regularizer: The bottleneck's term, unweighted.
        total: Both, weighted.
        pixel: Mean distance of pixels, for the log.
        perceptual: Mean perceptual distance, for the log.
    """

    likelihood: Float[Tensor, ""]
    regularizer: Float[Tensor, ""]
    total: Float[Tensor, ""]
    pixel: Float[Tensor, ""]
    perceptual: Float[Tensor, ""]


class ReconstructionLoss(nn.Module):
    """(|x - y| + weight LPIPS(x, y)) over pixels, plus the bottleneck's term.

    The reduction decides what the bottleneck's weight means: the same weight beside a mean over
    pixels is stronger by the number of values in an image.

    Args:
        perceptual: A perceptual distance (x, y) -> one value per sample.
        loss_type: Of pixels: `l1` or `l2` (squared).
        reduction: `sum_pixels` (published for KL) or `mean_pixels` (published for VQ).
        perceptual_weight: Weight of the perceptual distance beside the pixels'.
        regularizer_weight: Weight of KL or codebook loss.
    """

    def __init__(
        self,
        perceptual: nn.Module,
        loss_type: LossType = "l1",
        reduction: Reduction = "sum_pixels",
        perceptual_weight: float = 1.0,
        regularizer_weight: float = 1e-6,
    ) -> None:
        super().__init__()
        one_of(LossType)(loss_type=loss_type)
        one_of(Reduction)(reduction=reduction)
        non_negative(perceptual_weight=perceptual_weight, regularizer_weight=regularizer_weight)
        self.perceptual = perceptual
        self.loss_type = loss_type
        self.reduction = reduction
        self.perceptual_weight = perceptual_weight
        self.regularizer_weight = regularizer_weight

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        reconstruction: Float[Tensor, "b c h w"],
        regularizer: Float[Tensor, " b"],
    ) -> ReconstructionTerms:
        """The loss of a batch and its parts."""
        difference = image - reconstruction
        pixel = difference.abs() if self.loss_type == "l1" else difference.square()
        perceptual = self.perceptual(image, reconstruction)
        per_value = pixel + self.perceptual_weight * perceptual
        likelihood = per_value.flatten(1)
        likelihood = likelihood.sum(1) if self.reduction == "sum_pixels" else likelihood.mean(1)
        likelihood, penalty = likelihood.mean(), regularizer.mean()
        return ReconstructionTerms(
            likelihood=likelihood,
            regularizer=penalty,
            total=likelihood + self.regularizer_weight * penalty,
            pixel=pixel.mean(),
            perceptual=perceptual.mean(),
        )


def hinge_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """½ E[relu(1 - D(x)) + relu(1 + D(y))], the discriminator's loss (Lim & Ye 2017)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla_loss(
    real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """½ E[softplus(-D(x)) + softplus(D(y))], the cross-entropy (Goodfellow et al. 2014)."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def adaptive_weight(
    likelihood: Float[Tensor, ""],
    adversarial: Float[Tensor, ""],
    last_layer: Tensor,
    average: Callable[[Tensor], Tensor] = lambda x: x,
) -> Float[Tensor, ""]:
    """‖∇ likelihood‖ / ‖∇ adversarial‖ at the decoder's last layer (Esser et al. 2021, eq. 7).

    Clamped to [0, 1e4]; multiplied with the adversarial loss it makes both pull alike.

    Args:
        likelihood: Reconstruction and perception.
        adversarial: The adversarial loss, unweighted.
        last_layer: The decoder's last weights.
        average: Averages a gradient over processes, so that all of them use one weight.
    """
    (wanted,) = torch.autograd.grad(likelihood, last_layer, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    ratio = average(wanted).norm() / (average(given).norm() + 1e-4)
    return ratio.clamp(0, 1e4).detach()
