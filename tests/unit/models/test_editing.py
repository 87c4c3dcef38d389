"""Editing with a model whose answer is known, over a codec that halves size and values."""

from __future__ import annotations

import pytest
import torch
from tests.oracle.gaussian import BatchNoise
from tests.unit.models.toys import HalfCodec, Recorder, model
from torch import Tensor

from ldmlab.core.records import Batch, Prediction
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine, from_betas
from ldmlab.models.editing import image_to_image, inpaint, invert

COUNT = 2000
SCHEDULES = [cosine(), RectifiedFlow(), KarrasVE(sigma_max=20)]


def _nothing(x: Tensor, t: Tensor) -> Prediction:
    raise AssertionError("asked")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("strength", "times"), [(0.6, [0.6, 0.4, 0.2, 0]), (0.3, [0.2, 0])])
def test_image_to_image_starts_from_the_mean_at_its_first_time(
    schedule: Schedule, strength: float, times: list[float]
) -> None:
    net, sampler = model([1.0], codec=HalfCodec(std=9.0), schedule=schedule), Recorder(steps=5)
    images = torch.full((COUNT, 1, 2, 2), 6.0)
    made = image_to_image(net, _nothing, images, strength, sampler, BatchNoise())
    assert sampler.times[0].tolist() == pytest.approx(times)
    level = schedule.level(torch.tensor(times[0], dtype=torch.float64))
    x = sampler.starts[0]
    spread = 4 * float(level.sigma) / COUNT**0.5
    assert float(x.mean()) == pytest.approx(3 * float(level.alpha), abs=spread)
    assert float(x.std()) == pytest.approx(float(level.sigma), rel=0.06)
    torch.testing.assert_close(made[:, :, :1, :1], 2 * x)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_inpaint_paints_latents_of_which_any_pixel_is_unknown(schedule: Schedule) -> None:
    net, sampler = model([1.0], schedule=schedule), Recorder(steps=2)
    images = torch.full((COUNT, 1, 2, 4), 6.0)
    unknown = torch.zeros(COUNT, 1, 2, 4)
    unknown[:, :, 1, 3] = 1
    painted = inpaint(net, _nothing, images, unknown, sampler, BatchNoise())
    first = schedule.level(torch.tensor(1.0, dtype=torch.float64))
    x = sampler.starts[0]
    # The latent on the left is known and noised to t = 1; the one on the right is noise.
    spread = 4 * float(first.scale) / COUNT**0.5
    assert float(x[..., 0].mean()) == pytest.approx(3 * float(first.alpha), abs=spread)
    assert float(x[..., 0].std()) == pytest.approx(float(first.sigma), rel=0.06)
    assert float(x[..., 1].mean()) == pytest.approx(0, abs=spread)
    assert float(x[..., 1].std()) == pytest.approx(float(first.scale), rel=0.06)
    assert bool((painted[unknown < 0.5] == 6).all())
    assert not bool((painted[unknown > 0.5] == 6).any())


def test_inpaint_covers_the_unknown_part_with_grey() -> None:
    """One of four pixels is unknown: the codec sees 6, 6, 6 and 0, and halves their mean."""
    seen: list[Tensor] = []

    class _Watched(HalfCodec):
        def encode(self, image: Tensor):
            seen.append(image)
            return super().encode(image)

    net = model([1.0], codec=_Watched())
    images, unknown = torch.full((1, 1, 2, 2), 6.0), torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    inpaint(net, _nothing, images, unknown, Recorder(steps=2), BatchNoise())
    assert seen[0].flatten().tolist() == [6, 6, 6, 0]


def test_inpaint_makes_each_step_as_often_as_asked() -> None:
    net, sampler = model([1.0]), Recorder(steps=2)
    images = torch.zeros(1, 1, 2, 2)
    inpaint(net, _nothing, images, torch.ones_like(images), sampler, BatchNoise(), 3)
    assert [times[0] for times in sampler.times] == [1, 1, 1, 0.5, 0.5, 0.5]


def test_inversion_climbs_from_the_first_entry_to_pure_noise() -> None:
    schedule = from_betas([0.1, 0.2, 0.3, 0.4])
    net = model([1.0], codec=HalfCodec(std=9.0), schedule=schedule)
    asked: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        asked.append(float(t))
        return schedule.level(t).given_x0(x, torch.zeros_like(x))

    images = torch.full((1, 1, 2, 2), 6.0)
    got = invert(net, denoise, images, DDIM(steps=2), BatchNoise())
    assert asked == [0.25, 0.5]
    # x0 = 0: the mean latent, 3, grows with sigma from .1 of variance to 1 - .9 .8 .7 .6.
    assert float(got) == pytest.approx(3 * ((1 - 0.9 * 0.8 * 0.7 * 0.6) / 0.1) ** 0.5)


def test_editing_draws_nothing_from_the_codec() -> None:
    net = model([7.0], codec=HalfCodec(std=9.0))
    denoiser = net.guided(Batch(index=torch.arange(1), label=torch.tensor([0])))
    made = image_to_image(net, denoiser, torch.zeros(1, 1, 2, 2), 1.0, DDIM(steps=3), BatchNoise())
    assert float(made.mean()) == pytest.approx(14, rel=1e-5)
