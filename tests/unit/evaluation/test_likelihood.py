"""Bits per dimension of a model on digits, by bound, by ODE and by the baseline."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from ldmlab.autoencoding.codec import IdentityCodec
from ldmlab.conditioning.none import Unconditional
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import DataSpec, LatentMoments
from ldmlab.data.digits import Digits
from ldmlab.diffusion.guidance import NoGuidance
from ldmlab.diffusion.parameterization import V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import cosine
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import Unit
from ldmlab.evaluation.likelihood import BitsPerDim, DensityBaseline, values_of
from ldmlab.evaluation.protocol import Subject
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.realnvp import RealNVP
from ldmlab.nn.unet import UNet


@pytest.fixture(scope="module")
def subject() -> Subject:
    """An untrained model whose network says v = 0: x0 = alpha x, the answer for N(0, I)."""
    torch.manual_seed(0)
    unet = UNet(
        in_channels=1, out_channels=1, channels=32, channel_mult=[1], num_res_blocks=1, num_heads=1
    )
    model = LatentDiffusion(
        IdentityCodec(1),
        ConditionalNetwork(unet, Unconditional()),
        DiffusionProcess(cosine(), V(), Unit(), Uniform()),
    )
    return Subject(model.eval(), DataSpec(8, 1), DDIM(), NoGuidance(), seed=0)


def _normal_bits(data: Digits, count: int) -> float:
    """Bits per value of digits under N(0, I), dequantised."""
    image = data.__getitems__(list(range(count))).image
    assert image is not None
    nats = 0.5 * (math.log(2 * math.pi) + image.square().mean().item())
    return (nats - math.log(2 / 255)) / math.log(2)


def test_both_likelihoods_of_a_normal_model_equal_its_cross_entropy(subject: Subject) -> None:
    data = Digits("validation")
    done: list[int] = []
    metrics = BitsPerDim(num_samples=20, terms=60, tolerance=1e-4)(
        subject, data, lambda at, total: done.append(at)
    )
    want = _normal_bits(data, 20)
    # The prior's part is exact; the ODE of this network is the identity.
    assert metrics["bits_per_dim_ode"]["value"] == pytest.approx(want, abs=0.02)
    bound = metrics["bits_per_dim"]
    assert bound["value"] == pytest.approx(want, abs=0.4)
    assert bound["value"] == pytest.approx(
        bound["prior"] + bound["steps"] + bound["decoder"], abs=1e-4
    )
    assert bound["space"] == "bytes"
    assert bound["samples"] == done[-1] == 20


def test_flow_likelihood_beats_the_normal_baseline(subject: Subject) -> None:
    train, unseen = Digits("train"), Digits("validation")
    network = partial(RealNVP, hidden_channels=16, num_steps=2, levels=2)
    measure = DensityBaseline(network, max_steps=30, batch_size=32, lr=3e-3)
    first, second = (
        measure(subject, train, unseen, 64, lambda done, total: None)["bits_per_dim_flow"]
        for _ in range(2)
    )
    assert first["value"] < _normal_bits(unseen, 64) - 0.5
    assert first == second


class _Normal(torch.nn.Module):
    """N(0, I), which nothing can be fitted to."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def initialise(self, x: Tensor) -> None:
        pass

    def log_prob(self, x: Tensor) -> Tensor:
        law = torch.distributions.Normal(0 * self.nothing, 1.0)
        return law.log_prob(x.flatten(1)).sum(1)


def test_flow_likelihood_is_that_of_bytes(subject: Subject) -> None:
    data = Digits("validation")
    measure = DensityBaseline(_Normal, max_steps=1)  # type: ignore[arg-type]
    found = measure(subject, data, data, 64, lambda done, total: None)["bits_per_dim_flow"]
    assert found["value"] == pytest.approx(_normal_bits(data, 64), abs=0.01)


def test_bytes_are_spread_evenly_over_their_width(subject: Subject) -> None:
    batch = Digits("validation").__getitems__(list(range(20)))
    z, dequantised, unit = values_of(subject, batch, SampleNoise(0, range(20)))
    assert batch.image is not None and torch.equal(z, batch.image)
    spread = (dequantised - z).flatten()
    # From half a byte below to half a byte above, on a scale of 2 / 255 a byte.
    assert unit == pytest.approx(2 / 255)
    assert -1 / 255 <= spread.min() < -0.99 / 255 and 0.99 / 255 < spread.max() <= 1 / 255
    assert abs(spread.mean()) < 0.05 / 255
    assert spread.std() == pytest.approx(unit / 12**0.5, rel=0.03)


def test_latents_are_draws_of_the_posterior(subject: Subject) -> None:
    class Spread(IdentityCodec):
        learned = True

        def encode(self, image: Tensor) -> LatentMoments:
            return LatentMoments(image, torch.full_like(image, 0.5))

    model = LatentDiffusion(Spread(1), subject.model.network, subject.model.process)
    latent = replace(subject, model=model)
    batch = Digits("validation").__getitems__(list(range(40)))
    z, same, unit = values_of(latent, batch, SampleNoise(0, range(40)))
    assert batch.image is not None and same is z and unit == 1
    assert (z - batch.image).std() == pytest.approx(0.5, rel=0.05)
    assert abs((z - batch.image).mean()) < 0.03
