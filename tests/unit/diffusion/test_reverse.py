"""The Gaussians of the reverse chain against torch's distributions."""

from __future__ import annotations

import math

import pytest
import torch

from ldmlab.core.errors import UserError
from ldmlab.core.records import Prediction
from ldmlab.diffusion.reverse import (
    chain_step,
    discretised_nll,
    gaussian_nll,
    log_variance,
    variance_fraction,
)
from ldmlab.diffusion.schedule import from_betas

CHAIN = from_betas([0.2, 0.375, 0.9])


def test_gaussian_nll_is_that_of_the_normal_law() -> None:
    x, mean = torch.tensor([[0.3, -1.0]]).double(), torch.tensor([[0.5, 0.2]]).double()
    variance = torch.tensor([[0.25, 4.0]]).double()
    want = -torch.distributions.Normal(mean, variance.sqrt()).log_prob(x)
    torch.testing.assert_close(gaussian_nll(x, mean, variance.log()), want)


@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.004), (-0.95, 0.03), (0.98, 0.05)])
def test_discretised_nll_is_a_distribution_over_bytes(mean: float, std: float) -> None:
    x = torch.arange(256, dtype=torch.float64).reshape(1, 256) / 127.5 - 1
    log_var = torch.tensor(2 * math.log(std), dtype=torch.float64)
    probability = torch.exp(-discretised_nll(x, torch.full_like(x, mean), log_var))
    assert float(probability.sum()) == pytest.approx(1, abs=1e-9)
    # A byte stands for the 2 / 255 around its value: numerically, by the midpoint rule.
    nearest = int(((x - mean).abs()).argmin())
    if 0 < nearest < 255:
        grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 * 2 / 255 - 1 / 255
        law = torch.distributions.Normal(mean, std)
        want = law.log_prob(x[0, nearest] + grid).exp().mean() * 2 / 255
        assert float(probability[0, nearest]) == pytest.approx(float(want), rel=1e-5)


@pytest.mark.parametrize(
    ("entry", "place", "want"),
    [(2, 1.0, 0.375), (2, 0.0, 0.15), (3, 1.0, 0.9), (1, 1.0, 0.2), (1, 0.0, 0.15)],
)
def test_log_variance_lies_between_the_posterior_and_the_forward_step(
    entry: int, place: float, want: float
) -> None:
    t = torch.tensor([entry / 3], dtype=torch.float64)
    like = torch.zeros(1, 2, dtype=torch.float64)
    got = log_variance(chain_step(CHAIN, t, 3), CHAIN, 3, place, like).exp()
    assert float(got.flatten()[0]) == pytest.approx(want)


def test_variance_fraction_is_one_for_beta() -> None:
    plain = Prediction(x0=torch.zeros(1, 1), eps=torch.zeros(1, 1))
    assert variance_fraction("beta", plain) == 1
    assert variance_fraction("beta_tilde", plain) == 0
    with pytest.raises(UserError, match="learned_variance"):
        variance_fraction("learned", plain)
