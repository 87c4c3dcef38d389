"""The terms of the variational bound on a chain of three steps."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import BatchNoise, exact_denoiser

from ldmlab.diffusion.schedule import KarrasVE, from_betas
from ldmlab.diffusion.vlb import VariationalBound, prior_kl, variational_bound

CHAIN = from_betas([0.2, 0.375, 0.9])  # alpha_bar .8, .5 and .05


def test_prior_term_is_the_divergence_from_the_prior() -> None:
    x0 = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    alpha, sigma = math.sqrt(0.05), math.sqrt(0.95)
    want = torch.distributions.kl_divergence(
        torch.distributions.Normal(alpha * x0, sigma), torch.distributions.Normal(0.0, 1.0)
    )
    assert float(prior_kl(CHAIN, x0)) == pytest.approx(float(want.sum()), rel=1e-5)
    wide = KarrasVE(sigma_max=20.0)
    want = torch.distributions.kl_divergence(
        torch.distributions.Normal(x0, 20.0), torch.distributions.Normal(0.0, math.sqrt(401))
    )
    assert float(prior_kl(wide, x0)) == pytest.approx(float(want.sum()), rel=1e-3)


def test_bits_are_nats_over_the_logarithm_of_two() -> None:
    one = torch.ones(1)
    bound = VariationalBound(prior=one, steps=torch.full((1, 3), 2.0), decoder=one, values=8)
    assert float(bound.total) == 8
    assert float(bound.bits_per_dim) == pytest.approx(1 / math.log(2))


def _bound(**options: object) -> VariationalBound:
    x0 = torch.ones(4000, 1, dtype=torch.float64)
    return variational_bound(exact_denoiser(CHAIN, 1.0), x0, CHAIN, BatchNoise(), **options)  # type: ignore[arg-type]


def test_bound_has_a_term_for_each_step_but_the_first() -> None:
    """Means of L_1 and L_2 for x0 = 1: the estimate is alpha x_t, off by sigma² + alpha sigma z."""
    bound = _bound()
    assert bound.steps.shape == (4000, 2)
    wanted = []
    for beta, before, after in ((0.375, 0.8, 0.5), (0.9, 0.5, 0.05)):
        error = (1 - after) ** 2 + after * (1 - after)
        tilde = beta * (1 - before) / (1 - after)
        shift = before * beta**2 / (1 - after) ** 2 * error
        wanted.append(0.5 * (tilde / beta - 1 - math.log(tilde / beta) + shift / beta))
    assert bound.steps.mean(0).tolist() == pytest.approx(wanted, rel=0.06)
    error = 0.2**2 + 0.8 * 0.2
    decoder = 0.5 * (math.log(2 * math.pi * 0.2) + error / 0.2)
    assert float(bound.decoder.mean()) == pytest.approx(decoder, abs=0.04)


def test_some_terms_stand_for_all() -> None:
    whole, one = _bound(), _bound(terms=1)
    assert one.steps.shape == (4000, 1)
    assert float(one.steps.mean()) == pytest.approx(float(whole.steps.sum(1).mean()), rel=0.08)


def test_decoder_variance_is_that_of_the_last_step_alone() -> None:
    mixed, beta, tilde = (
        _bound(variance="beta_tilde", decoder_variance="beta"),
        _bound(variance="beta"),
        _bound(variance="beta_tilde"),
    )
    assert torch.equal(mixed.decoder, beta.decoder)
    assert torch.equal(mixed.steps, tilde.steps)
    assert not torch.equal(beta.decoder, tilde.decoder)
