"""The autoencoder's losses on images whose differences are whole numbers."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ldmlab.autoencoding.losses import (
    NoPerceptual,
    ReconstructionLoss,
    adaptive_weight,
    hinge_loss,
    vanilla_loss,
)


class _Fixed(nn.Module):
    """Says that the first pair is .5 apart and the second 1.5."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.tensor([0.5, 1.5]).reshape(2, 1, 1, 1)


# Two images of six values: all of the first are 1 off, of the second one is 3 off.
IMAGE = torch.zeros(2, 3, 1, 2)
OTHER = torch.stack([torch.full((3, 1, 2), -1.0), torch.zeros(3, 1, 2)])
OTHER[1, 2, 0, 1] = 3


@pytest.mark.parametrize(
    ("loss_type", "reduction", "likelihood", "pixel"),
    [
        ("l1", "sum_pixels", (6 + 3) / 2 + 2 * 6 * 1, 9 / 12),
        ("l2", "sum_pixels", (6 + 9) / 2 + 2 * 6 * 1, 15 / 12),
        ("l1", "mean_pixels", 9 / 12 + 2 * 1, 9 / 12),
        ("l2", "mean_pixels", 15 / 12 + 2 * 1, 15 / 12),
    ],
)
def test_reconstruction_loss_reduces_as_it_is_told(
    loss_type: Literal["l1", "l2"],
    reduction: Literal["sum_pixels", "mean_pixels"],
    likelihood: float,
    pixel: float,
) -> None:
    loss = ReconstructionLoss(
        _Fixed(), loss_type, reduction, perceptual_weight=2.0, regularizer_weight=0.1
    )
    terms = loss(IMAGE, OTHER, torch.tensor([10.0, 30.0]))
    assert float(terms.likelihood) == pytest.approx(likelihood)
    assert float(terms.pixel) == pytest.approx(pixel)
    assert float(terms.perceptual) == 1
    assert float(terms.regularizer) == 20
    assert float(terms.total) == pytest.approx(likelihood + 2)


def test_reconstruction_loss_has_its_published_defaults() -> None:
    loss = ReconstructionLoss(NoPerceptual())
    assert (loss.loss_type, loss.reduction) == ("l1", "sum_pixels")
    assert (loss.perceptual_weight, loss.regularizer_weight) == (1, 1e-6)
    assert NoPerceptual()(IMAGE, OTHER).tolist() == [[[[0]]], [[[0]]]]


def _logits(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1)


def test_hinge_loss_asks_for_a_margin_of_one_on_each_side() -> None:
    # Real: 1 - 3 is none, 1 - .5 is .5; fake: 1 - .5 is .5 and 1 + 2 is 3.
    got = hinge_loss(_logits(3.0, 0.5), _logits(-0.5, 2.0))
    assert float(got) == pytest.approx(0.5 * (0.25 + 1.75))


def test_vanilla_loss_tells_real_from_fake() -> None:
    sure, fooled = (vanilla_loss(_logits(9.0 * s), _logits(-9.0 * s)) for s in (1, -1))
    assert float(sure) < 1e-3
    assert float(fooled) == pytest.approx(9, abs=1e-3)
    assert float(vanilla_loss(_logits(0.0), _logits(0.0))) == pytest.approx(0.6931472)


def test_adaptive_weight_is_a_constant_between_its_bounds() -> None:
    layer = torch.ones(4, requires_grad=True)
    # Gradients of norms 6 and .02, and 1e-4 below the line.
    weight = adaptive_weight((3 * layer).sum(), (0.01 * layer).sum(), layer)
    assert float(weight) == pytest.approx(6 / 0.0201)
    assert not weight.requires_grad
    assert float(adaptive_weight((0 * layer).sum(), layer.sum(), layer)) == 0
    assert float(adaptive_weight((1e5 * layer).sum(), (1e-6 * layer).sum(), layer)) == 1e4


def test_adaptive_weight_measures_averaged_gradients() -> None:
    """Processes of opposite gradients share one weight: the average comes before the norm."""
    layer = torch.ones(4, requires_grad=True)
    calls: list[Tensor] = []

    def average(gradient: Tensor) -> Tensor:
        calls.append(gradient)
        return gradient / 2 if len(calls) == 1 else gradient

    weight = adaptive_weight((3 * layer).sum(), layer.sum(), layer, average)
    assert float(weight) == pytest.approx(3 / 2.0001)
    assert [call.tolist() for call in calls] == [[3] * 4, [1] * 4]
