"""Bottlenecks with a handful of values."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import BatchNoise

from ldmlab.autoencoding.bottlenecks import KL, VQ, Posterior


def _passes(bottleneck: KL | VQ) -> None:
    """The features go through as they are."""
    with torch.no_grad():
        bottleneck.quant.weight.copy_(torch.eye(len(bottleneck.quant.weight))[..., None, None])
        bottleneck.quant.bias.zero_()


def _features(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1).requires_grad_()


def test_kl_posterior_is_mean_before_log_variance() -> None:
    bottleneck = KL(2)
    _passes(bottleneck)
    posterior = bottleneck(_features(0.5, -1.0, math.log(0.25), math.log(9)))
    assert posterior.mean.flatten().tolist() == [0.5, -1]
    assert posterior.std.flatten().tolist() == pytest.approx([0.5, 3])
    moments = posterior.moments()
    assert torch.equal(moments.mean, posterior.mean) and torch.equal(moments.std, posterior.std)


def test_kl_log_variance_is_kept_in_its_published_range() -> None:
    bottleneck = KL(1)
    _passes(bottleneck)
    found = [float(bottleneck(_features(0.0, v)).log_variance.detach()) for v in (-99, -29, 19, 99)]
    assert found == [-30, -29, 19, 20]


def test_kl_is_in_nats_a_sample() -> None:
    """0 for N(0, 1); of two values of mean 3 and variance 1, 9 / 2 each."""
    still, moved = torch.zeros(1, 2, 1, 1), torch.full((1, 2, 1, 1), 3.0)
    posterior = Posterior(torch.cat([still, moved]), torch.zeros(2, 2, 1, 1))
    assert posterior.regularizer().tolist() == pytest.approx([0, 9])
    narrow = Posterior(still, torch.full_like(still, -2.0))
    assert float(narrow.regularizer()) == pytest.approx(math.exp(-2) + 1)


def test_kl_latents_are_drawn() -> None:
    posterior = Posterior(
        torch.full((20_000, 1, 1, 1), 2.0), torch.full((20_000, 1, 1, 1), 4.0).log()
    )
    z = posterior.sample(BatchNoise())
    assert float(z.mean()) == pytest.approx(2, abs=0.05)
    assert float(z.std()) == pytest.approx(2, abs=0.05)


def _codebook(**weights: float) -> VQ:
    bottleneck = VQ(2, num_codes=3, **weights)
    _passes(bottleneck)
    with torch.no_grad():
        bottleneck.codes.weight.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0]]))
    return bottleneck


def test_vq_pulls_codes_and_features_by_their_own_weights() -> None:
    """Features (3, 1) lie at (-1, 1) from the code (4, 0): a mean square of 1."""
    bottleneck = _codebook(codebook_weight=1.0, commitment_weight=0.25)
    features = _features(3.0, 1.0)
    latent = bottleneck(features)
    assert latent.indices.flatten().tolist() == [1]
    assert float(latent.regularizer().detach()) == pytest.approx(1.25)
    codes, pulled = torch.autograd.grad(
        latent.regularizer().sum(), [bottleneck.codes.weight, features]
    )
    assert codes.tolist() == [[0, 0], [1, -1], [0, 0]]
    assert pulled.flatten().tolist() == [-0.25, 0.25]


def test_vq_has_the_weights_of_its_paper() -> None:
    """van den Oord et al. (2017): beta = .25 on the commitment, 1 on the codebook."""
    bottleneck = VQ()
    assert (bottleneck.commitment_weight, bottleneck.codebook_weight) == (0.25, 1)
    assert (bottleneck.weight, KL().weight) == (1, 1e-6)
    edge = 1 / 8192
    assert 0.9 * edge < float(bottleneck.codes.weight.abs().max().detach()) <= edge


def test_vq_passes_gradients_straight_through_to_the_features() -> None:
    bottleneck = _codebook()
    features = _features(3.0, 1.0)
    z = bottleneck(features).sample(BatchNoise())
    assert z.flatten().tolist() == [4, 0]
    (slope,) = torch.autograd.grad(
        (z * torch.tensor([5.0, 7.0]).reshape(1, 2, 1, 1)).sum(), features
    )
    assert slope.flatten().tolist() == [5, 7]
    (untouched,) = torch.autograd.grad(
        bottleneck(features).sample(BatchNoise()).sum(), bottleneck.codes.weight, allow_unused=True
    )
    assert untouched is None or not untouched.any()


def test_vq_hands_diffusion_the_features_before_quantisation() -> None:
    bottleneck, features = _codebook(), _features(3.0, 1.0)
    for moments in (bottleneck(features).moments(), bottleneck.moments(features)):
        assert moments.mean.flatten().tolist() == [3, 1]
        assert not moments.std.any()
    assert bottleneck.project(features.detach()).flatten().tolist() == [4, 0]


def test_vq_loss_is_a_mean_for_each_sample() -> None:
    features = torch.tensor([[[[3.0, 4.0]], [[1.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 6.0]]]])
    # The first sample has (3, 1) and an exact code, the second an exact one and (0, 6).
    assert _codebook()(features).regularizer().tolist() == pytest.approx([1.25 * 0.5, 1.25])


def test_bottlenecks_ask_for_the_channels_that_they_need() -> None:
    kl, vq = KL(4, inner_channels=6), VQ(3, 16, inner_channels=5)
    assert (kl.feature_channels, kl.inner_channels, kl.latent_channels) == (12, 6, 4)
    assert (vq.feature_channels, vq.inner_channels, vq.latent_channels) == (5, 5, 3)
    assert kl.quant.out_channels == 8 and vq.quant.out_channels == 3
    assert (KL(4).inner_channels, VQ(3, 16).inner_channels) == (4, 3)
