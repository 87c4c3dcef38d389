"""Ways to ask one model, each against the sum that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ldmlab.autoencoding.codec import IdentityCodec
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.parameterization import EDM, X0, Parameterization, V
from ldmlab.diffusion.process import Denoiser, DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import cosine
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import Unit
from ldmlab.models.editing import image_to_image, inpaint, invert
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.unet import UNet

SIZE = 8


def _model(seed: int, target: Parameterization | None = None) -> LatentDiffusion:
    """An untrained class-conditional model in pixel space, every layer of it at work."""
    torch.manual_seed(seed)
    conditioner = ClassConditioner(num_classes=4, dim=8)
    unet = UNet(
        in_channels=1,
        out_channels=1,
        token_dim=conditioner.token_dim,
        channels=32,
        channel_mult=[1],
        num_res_blocks=1,
        attention_factors=[1],
        num_heads=1,
    )
    with torch.no_grad():
        for parameter in unet.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    process = DiffusionProcess(cosine(), target or V(), Unit(), Uniform())
    return LatentDiffusion(IdentityCodec(1), ConditionalNetwork(unet, conditioner), process).eval()


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return _model(0)


@pytest.fixture(scope="module")
def asked() -> Batch:
    return Batch(index=torch.arange(2), label=torch.tensor([1, 2]))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return SampleNoise(3, range(2)).normal(torch.empty(2, 1, SIZE, SIZE))


def _eps(denoiser: Denoiser, x: Tensor, t: float = 0.6) -> Tensor:
    with torch.no_grad():
        return denoiser(x, torch.tensor(t, dtype=torch.float64)).eps


def test_condition_given_twice_counts_twice(
    model: LatentDiffusion, asked: Batch, x: Tensor
) -> None:
    twice = _eps(model.guided(asked, also=[asked]), x)
    assert not torch.allclose(twice, _eps(model.guided(asked), x), atol=1e-4)
    torch.testing.assert_close(twice, _eps(model.guided(asked, ClassifierFree(2.0)), x))


def test_negative_equal_to_the_condition_changes_nothing(
    model: LatentDiffusion, asked: Batch, x: Tensor
) -> None:
    plain = _eps(model.guided(asked), x)
    for away in ({"negative": asked}, {"autoguidance": model}):
        torch.testing.assert_close(
            _eps(model.guided(asked, ClassifierFree(3.0), **away), x), plain, atol=1e-5, rtol=1e-5
        )


def test_autoguidance_replaces_the_null_condition(
    model: LatentDiffusion, asked: Batch, x: Tensor
) -> None:
    weak = _model(1)
    strong, poor = _eps(model.guided(asked), x), _eps(weak.guided(asked), x)
    got = _eps(model.guided(asked, ClassifierFree(3.0), autoguidance=weak), x)
    torch.testing.assert_close(got, poor + 3 * (strong - poor), atol=1e-5, rtol=1e-5)


def test_negative_and_autoguidance_together_are_refused(
    model: LatentDiffusion, asked: Batch
) -> None:
    with pytest.raises(ValueError, match="not from both"):
        model.guided(asked, ClassifierFree(2.0), negative=asked, autoguidance=model)


def test_inpainting_keeps_the_known_pixels_exactly(
    model: LatentDiffusion, asked: Batch, x: Tensor
) -> None:
    unknown = torch.zeros(2, 1, SIZE, SIZE)
    unknown[..., : SIZE // 2] = 1
    painted = [
        inpaint(
            model, model.guided(asked), images, unknown, DDIM(5), SampleNoise(0, range(2)), again
        )
        for images, again in ((x, 1), (torch.where(unknown > 0.5, 9.0, x), 1), (x, 2))
    ]
    assert torch.equal(painted[0][..., SIZE // 2 :], x[..., SIZE // 2 :])
    # What stood in the unknown part leaves no trace; painting it twice a step does.
    assert torch.equal(painted[0], painted[1])
    assert not torch.equal(painted[0], painted[2])


def test_image_to_image_keeps_more_at_lower_strength(
    model: LatentDiffusion, asked: Batch, x: Tensor
) -> None:
    far = [
        (
            image_to_image(
                model, model.guided(asked), x, strength, DDIM(50), SampleNoise(0, range(2))
            )
            - x
        )
        .square()
        .mean()
        .item()
        for strength in (0.02, 0.3, 1.0)
    ]
    assert far[0] < 0.01 < far[1] < far[2]


@pytest.mark.parametrize("target", [X0(), EDM()])
def test_inversion_works_with_every_parameterization(
    target: Parameterization, asked: Batch, x: Tensor
) -> None:
    model = _model(0, target)
    start = invert(model, model.guided(asked), x, DDIM(4), SampleNoise(0, range(2)))
    assert bool(start.isfinite().all()) and not torch.equal(start, x)


def test_inverted_image_is_reconstructed(model: LatentDiffusion, asked: Batch, x: Tensor) -> None:
    sampler, noise = DDIM(200), SampleNoise(0, range(2))
    denoiser, schedule = model.guided(asked), model.process.schedule
    start = invert(model, denoiser, x, sampler, noise)
    assert (start - x).square().mean() > 0.01
    with torch.no_grad():
        again = sampler(denoiser, start, sampler.timesteps(schedule), schedule, noise)
    torch.testing.assert_close(again, x, atol=0.05, rtol=0)
