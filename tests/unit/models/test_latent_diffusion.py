"""What the model makes of its parts: latents, conditions, guidance and the start of sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.oracle.gaussian import BatchNoise
from tests.unit.models.toys import HalfCodec, Recorder, model
from torch import Tensor, nn

from ldmlab.autoencoding.codec import IdentityCodec
from ldmlab.conditioning.none import Unconditional
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, Conditioning, LatentMoments
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine
from ldmlab.models.latent_diffusion import ConditionalNetwork
from ldmlab.nn.unet import UNet

COUNT = 4000


def _labels(*labels: int) -> Batch:
    return Batch(index=torch.arange(len(labels)), label=torch.tensor(labels))


def _cached(mean: float, std: float) -> Batch:
    moments = torch.full((COUNT, 1, 1, 1), mean), torch.full((COUNT, 1, 1, 1), std)
    label = torch.arange(COUNT) % 2
    return Batch(index=torch.arange(COUNT), label=label, latent=LatentMoments(*moments))


def test_loss_draws_latents_from_the_cached_posterior() -> None:
    """Latents of N(1, 2²) noised to t = .3 have the mean alpha and 4 alpha² + sigma²."""
    net = model([1.0, 2.0], t=0.3)
    net.loss(_cached(1.0, 2.0), BatchNoise())
    level = cosine().level(torch.tensor(0.3))
    alpha, sigma = float(level.alpha), float(level.sigma)
    x = net.network.seen[0]
    assert float(x.mean()) == pytest.approx(alpha, abs=0.1)
    assert float(x.var()) == pytest.approx(4 * alpha**2 + sigma**2, rel=0.1)


def test_loss_draws_latents_from_the_codecs_posterior() -> None:
    images = torch.full((COUNT, 1, 2, 2), 2.0)
    net = model([1.0], codec=HalfCodec(std=2.0), t=0.3)
    net.loss(
        Batch(torch.arange(COUNT), image=images, label=torch.zeros(COUNT).long()), BatchNoise()
    )
    level = cosine().level(torch.tensor(0.3))
    assert float(net.network.seen[0].var()) == pytest.approx(
        float(4 * level.alpha**2 + level.sigma**2), rel=0.1
    )


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_loss_drops_its_share_of_the_conditions_once(share: float) -> None:
    net = model([1.0, 2.0], null=5.0, condition_dropout=share)
    net.loss(_cached(0.0, 0.0), BatchNoise())
    told = net.network.told[0]
    dropped = told == 5
    assert float(dropped.double().mean()) == pytest.approx(share, abs=0.03)
    # The others keep their own.
    assert torch.equal(told[~dropped], (1.0 + torch.arange(COUNT) % 2)[~dropped])


def test_loss_without_dropout_needs_no_null_condition() -> None:
    net = model([1.0, 2.0], null=None, condition_dropout=0.0)
    assert bool(net.loss(_cached(0.0, 0.0), BatchNoise()).per_sample.isfinite().all())


def test_dropped_conditions_do_not_depend_on_the_batch() -> None:
    batch = _cached(0.0, 1.0)
    net = model([1.0, 2.0], condition_dropout=0.5)
    net.loss(batch[:8], SampleNoise(3, range(8)))
    for part in (slice(0, 3), slice(3, 8)):
        net.loss(batch[part], SampleNoise(3, range(8)[part]))
    whole, first, second = net.network.told
    assert torch.equal(torch.cat([first, second]), whole)
    whole, first, second = net.network.seen
    assert torch.equal(torch.cat([first, second]), whole)


def _x0(net: Any, *labels: int, **options: Any) -> list[float]:
    denoiser = net.guided(_labels(*labels), **options)
    x = torch.zeros(len(labels), 1, 1, 1)
    return denoiser(x, torch.tensor(0.5, dtype=torch.float64)).x0.flatten().tolist()


def test_guided_moves_from_the_null_the_negative_or_the_weak_model() -> None:
    """Classes of 7, 3 and 6, the null of 5; the weak model says 4, 2 and 1."""
    net, weak = model([7.0, 3.0, 6.0]), model([4.0, 2.0, 1.0], null=0.0)
    scale = ClassifierFree(3.0)
    assert _x0(net, 0, 1) == pytest.approx([7, 3])
    assert _x0(net, 0, 1, guidance=scale) == pytest.approx([5 + 3 * 2, 5 - 3 * 2])
    away = _labels(2, 2)
    assert _x0(net, 0, 1, guidance=scale, negative=away) == pytest.approx([6 + 3, 6 - 3 * 3])
    poor = {"guidance": scale, "autoguidance": weak}
    assert _x0(net, 0, 1, **poor) == pytest.approx([4 + 3 * 3, 2 + 3 * 1])
    # Without guidance there is nothing to move away from.
    assert _x0(net, 0, 1, negative=away, autoguidance=None) == pytest.approx([7, 3])


def test_guided_by_several_conditions_adds_what_each_adds() -> None:
    net, weak = model([7.0, 3.0, 6.0]), model([4.0, 2.0, 1.0], null=0.0)
    both = {"also": [_labels(2, 2)]}
    assert _x0(net, 0, 1, **both) == pytest.approx([5 + 2 + 1, 5 - 2 + 1])
    scale = ClassifierFree(3.0)
    assert _x0(net, 0, 1, guidance=scale, **both) == pytest.approx([5 + 3 * 3, 5 - 3])
    # The weak model is asked under the same conditions: 4 + 1 and 2 + 1.
    poor = {"guidance": scale, "autoguidance": weak}
    assert _x0(net, 0, 1, **poor, **both) == pytest.approx([5 + 3 * 3, 3 + 3 * 1])


@pytest.mark.parametrize("schedule", [cosine(), RectifiedFlow(), KarrasVE(sigma_max=20)])
def test_sampling_starts_at_the_noise_of_its_schedule(schedule: Schedule) -> None:
    net, sampler = model([1.0], schedule=schedule), Recorder(steps=4)
    images = net.sample(_labels(*[0] * 1000), (4, 8), sampler, BatchNoise())
    assert images.shape == (1000, 1, 4, 8)
    assert sampler.starts[0].shape == (1000, 1, 2, 4)
    scale = float(schedule.level(torch.tensor(1.0, dtype=torch.float64)).scale)
    assert float(sampler.starts[0].std()) == pytest.approx(scale, rel=0.03)
    assert sampler.times[0].tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_sampling_decodes_what_the_sampler_ends_on() -> None:
    steps: list[int] = []
    net = model([7.0, 3.0])
    images = net.sample(
        _labels(0, 1), 4, DDIM(steps=3), BatchNoise(), on_step=lambda step, _: steps.append(step)
    )
    assert images.shape == (2, 1, 4, 4)
    assert images.mean((1, 2, 3)).tolist() == pytest.approx([14, 6], rel=1e-5)
    assert steps == [1, 2, 3]
    strong = net.sample(_labels(0), 4, DDIM(steps=3), BatchNoise(), ClassifierFree(2.0))
    assert float(strong.mean()) == pytest.approx(18, rel=1e-5)


class _Spy(UNet):
    """Keeps what it is given."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.given: tuple[Any, ...] = ()

    def forward(
        self, x: Tensor, time: Tensor, tokens: Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor:
        self.given = (x, time, tokens, vector)
        return x[:, :1]


def test_network_is_given_every_slot_of_its_conditioning() -> None:
    spy = _Spy()
    network = ConditionalNetwork(spy, Unconditional())
    x, maps = torch.zeros(2, 1, 3, 3), torch.ones(2, 2, 3, 3, dtype=torch.float64)
    tokens, vector = torch.rand(2, 4, 5), torch.rand(2, 6)
    network(x, torch.zeros(2), Conditioning(tokens=tokens, maps=maps, vector=vector))
    seen, _, words, pooled = spy.given
    # The maps lie behind the latents.
    assert seen.dtype == x.dtype and seen[:, :, 0, 0].tolist() == [[0, 1, 1]] * 2
    assert words is tokens and pooled is vector


def test_identity_model_needs_the_image_or_its_latent() -> None:
    with pytest.raises(ValueError, match="an image or a cached latent"):
        model([1.0], codec=IdentityCodec(1)).loss(_labels(0), BatchNoise())
