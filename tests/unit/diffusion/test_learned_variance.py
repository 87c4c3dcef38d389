"""Learned variances on a chain of three steps, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ldmlab.core.records import Prediction
from ldmlab.diffusion.learned_variance import LearnedVariance, variance_bound
from ldmlab.diffusion.schedule import from_betas

CHAIN = from_betas([0.2, 0.375, 0.9])  # alpha_bar .8, .5 and .05
TILDE = 0.375 * 0.2 / 0.5  # beta_tilde of the second step


def _t(entry: int) -> torch.Tensor:
    return torch.tensor([entry / 3], dtype=torch.float64)


def test_learned_variance_reads_eps_before_its_place() -> None:
    parameterization, t = LearnedVariance(), _t(2)
    output = torch.tensor([[[0.25], [-0.5], [1.0], [0.0]]], dtype=torch.float64)
    x = torch.zeros(1, 2, 1, dtype=torch.float64)
    preconditioning = parameterization.preconditioning(t, CHAIN.level(t))
    answer = parameterization.predict(output, x, preconditioning)
    assert answer.eps.flatten().tolist() == pytest.approx([0.25, -0.5])
    assert answer.variance_fraction is not None
    # 1 is the largest variance; 0, as of an untrained layer, the middle.
    assert answer.variance_fraction.flatten().tolist() == [1.0, 0.5]
    assert parameterization.answer(output).flatten().tolist() == [0.25, -0.5]
    assert parameterization.outputs == 2


def _bound(entry: int, x0: float, estimate: float, place: float) -> float:
    prediction = Prediction(
        x0=torch.tensor([[estimate]], dtype=torch.float64),
        eps=torch.zeros(1, 1, dtype=torch.float64),
        variance_fraction=torch.tensor([[place]], dtype=torch.float64),
    )
    x = torch.zeros(1, 1, dtype=torch.float64)
    return float(variance_bound(CHAIN, prediction, x, torch.full_like(x, x0), _t(entry)))


@pytest.mark.parametrize("place", [0.0, 0.25, 1.0])
def test_variance_bound_is_the_divergence_of_two_normals(place: float) -> None:
    variance = TILDE ** (1 - place) * 0.375**place
    shift = math.sqrt(0.8) * 0.375 / 0.5 * 0.3  # the posterior's weight of x0, times the error
    want = torch.distributions.kl_divergence(
        torch.distributions.Normal(shift, math.sqrt(TILDE)),
        torch.distributions.Normal(0.0, math.sqrt(variance)),
    )
    assert _bound(2, 1.0, 0.7, place) == pytest.approx(3 * float(want), rel=1e-5)


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_variance_bound_of_the_first_step_is_a_likelihood(place: float) -> None:
    std = math.sqrt(TILDE if place == 0 else 0.2)
    want = -torch.distributions.Normal(0.7, std).log_prob(torch.tensor(1.0))
    assert _bound(1, 1.0, 0.7, place) == pytest.approx(3 * float(want), rel=1e-5)


def test_variance_bound_enters_the_loss_with_its_weight() -> None:
    t, x = _t(2), torch.full((1, 1, 1), 0.5, dtype=torch.float64)
    output = torch.tensor([[[0.25], [0.5]]], dtype=torch.float64)
    x0 = torch.full_like(x, 0.8)
    losses = []
    for weight in (1.0, 0.001):
        parameterization = LearnedVariance(weight)
        preconditioning = parameterization.preconditioning(t, CHAIN.level(t))
        losses.append(
            float(parameterization.further_loss(output, x, preconditioning, x0, t, CHAIN))
        )
    prediction = LearnedVariance().predict(output, x, preconditioning)
    assert losses[0] == pytest.approx(float(variance_bound(CHAIN, prediction, x, x0, t)))
    assert losses[1] == pytest.approx(losses[0] / 1000)
    assert LearnedVariance().vlb_weight == 0.001


def test_variance_bound_is_a_mean_over_values_and_leaves_eps_alone() -> None:
    x0 = torch.full((1, 4), 0.9, dtype=torch.float64, requires_grad=True)
    place = torch.full((1, 4), 0.5, dtype=torch.float64, requires_grad=True)
    wide = Prediction(x0=x0, eps=torch.zeros_like(x0), variance_fraction=place)
    bound = variance_bound(CHAIN, wide, torch.zeros_like(x0), torch.full_like(x0, 0.7), _t(2))
    assert float(bound.detach()) == pytest.approx(_bound(2, 0.7, 0.9, 0.5))
    bound.sum().backward()
    assert x0.grad is None
    assert place.grad is not None and bool(place.grad.abs().min() > 0)
