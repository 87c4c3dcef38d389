"""Guidance, composition and in-painting where the posterior is known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.guidance import (
    ClassifierFree,
    ClassifierGuidance,
    Guidance,
    Interval,
    NoGuidance,
    Rescaled,
    compose,
)
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver
from ldmlab.diffusion.samplers.inpainting import Inpainting
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine, linear
from tests.oracle.gaussian import exact_denoiser

COUNT = 400


def normal_denoiser(schedule: Schedule, mean: float, std: float) -> Denoiser:
    """The exact denoiser of N(mean, std²)."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        level = schedule.level(t)
        a, v = broadcast_like(level.alpha, x), broadcast_like(level.sigma, x)
        off = (x - a * mean) / (a**2 * std**2 + v**2)
        return Prediction(x0=mean + a * std**2 * off, eps=v * off)

    return denoise


def draw(sampler: Sampler, denoiser: Denoiser, schedule: Schedule) -> Tensor:
    noise = SampleNoise(0, range(COUNT))
    x = noise.normal(torch.empty(COUNT, 4, dtype=torch.float64))
    times = sampler.timesteps(schedule)
    x = x * float(schedule.level(times[0]).scale)
    return sampler(denoiser, x, times, schedule, noise)


@pytest.mark.parametrize("schedule", [linear(), cosine(), KarrasVE(sigma_max=20)])
def test_classifier_guidance_samples_the_posterior(schedule: Schedule) -> None:
    """Prior N(0, 1), observation y = x0 + N(0, .25) = 1: posterior N(.8, .2)."""

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        level = schedule.level(t)
        total = level.alpha**2 + level.sigma**2
        mean = level.alpha / total * x
        variance = level.sigma**2 / total + 0.25
        return (-0.5 * (1 - mean).square() / variance).sum(1)

    guided = ClassifierGuidance(log_prob)(
        exact_denoiser(schedule, 1.0), exact_denoiser(schedule, 1.0), schedule
    )
    got = draw(DDIM(steps=150), guided, schedule)
    assert float(got.mean()) == pytest.approx(0.8, abs=0.03)
    assert float(got.std()) == pytest.approx(math.sqrt(0.2), abs=0.03)


def test_composed_guidance_multiplies_densities() -> None:
    """p(x) (N(1, .5²) / p) (N(-.2, .5²) / p) with p = N(0, 1) is a normal law."""
    schedule = cosine()
    conditions = [normal_denoiser(schedule, 1.0, 0.5), normal_denoiser(schedule, -0.2, 0.5)]
    guided = compose(conditions, exact_denoiser(schedule, 1.0), [1.0, 1.0])
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    t = torch.tensor(0.3, dtype=torch.float64)
    level = schedule.level(t)
    a2, s2 = level.alpha**2, level.sigma**2
    total = a2 * 0.25 + s2
    score = -(x - level.alpha) / total - (x + 0.2 * level.alpha) / total + x / (a2 + s2)
    torch.testing.assert_close(guided(x, t).eps, -level.sigma * score)
    with pytest.raises(ValueError, match="as many scales"):
        compose(conditions, conditions[0], [1.0])


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_classifier_free_guidance_is_linear_in_the_score(scale: float) -> None:
    schedule = linear()
    conditional, null = normal_denoiser(schedule, 1.0, 0.5), exact_denoiser(schedule, 1.0)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    t = torch.tensor(0.4, dtype=torch.float64)
    got = ClassifierFree(scale)(conditional, null, schedule)(x, t)
    torch.testing.assert_close(
        got.eps, null(x, t).eps + scale * (conditional(x, t).eps - null(x, t).eps)
    )
    level = schedule.level(t)
    torch.testing.assert_close(level.alpha * got.x0 + level.sigma * got.eps, x)


@pytest.mark.parametrize(
    "guidance", [NoGuidance(), ClassifierFree(4.0), Rescaled(4.0), Interval(ClassifierFree(4.0))]
)
def test_guided_x0_and_eps_recombine_to_the_sample(guidance: Guidance) -> None:
    schedule = cosine()
    conditional, null = normal_denoiser(schedule, 1.0, 0.5), exact_denoiser(schedule, 1.0)
    x = SampleNoise(0, range(3)).normal(torch.empty(3, 8, dtype=torch.float64))
    for time in (torch.tensor(0.5), torch.tensor(0.05), torch.tensor([0.1, 0.5, 0.9])):
        t = time.double()
        prediction, level = guidance(conditional, null, schedule)(x, t), schedule.level(t)
        alpha, sigma = broadcast_like(level.alpha, x), broadcast_like(level.sigma, x)
        torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, x)


def _varying(denoiser: Denoiser, place: float) -> Denoiser:
    """The denoiser with a learned variance at one place."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return replace(denoiser(x, t), variance_fraction=torch.full_like(x, place))

    return denoise


@pytest.mark.parametrize(
    "guidance",
    [
        ClassifierFree(4.0),
        Rescaled(4.0),
        Interval(Rescaled(4.0)),
        ClassifierGuidance(lambda x, t: -x.square().sum(1)),
    ],
)
def test_guidance_keeps_the_learned_variance_of_the_condition(guidance: Guidance) -> None:
    schedule = cosine()
    conditional = _varying(normal_denoiser(schedule, 1.0, 0.5), 0.3)
    null = _varying(exact_denoiser(schedule, 1.0), 0.9)
    x = SampleNoise(0, range(3)).normal(torch.empty(3, 8, dtype=torch.float64))
    for time in (torch.tensor(0.5), torch.tensor([0.1, 0.5, 0.9])):
        place = guidance(conditional, null, schedule)(x, time.double()).variance_fraction
        assert place is not None and torch.equal(place, torch.full_like(x, 0.3))


def test_guidance_rescale_keeps_the_std_and_interval_skips_the_ends() -> None:
    schedule = cosine()
    conditional, null = normal_denoiser(schedule, 1.0, 0.5), exact_denoiser(schedule, 1.0)
    x = SampleNoise(0, range(3)).normal(torch.empty(3, 50, dtype=torch.float64))
    t = torch.tensor(0.5, dtype=torch.float64)
    wanted, got = conditional(x, t), Rescaled(6.0, rescale=1.0)(conditional, null, schedule)(x, t)
    torch.testing.assert_close(got.x0.std(1), wanted.x0.std(1))
    plain = Rescaled(6.0, rescale=0.0)(conditional, null, schedule)(x, t)
    torch.testing.assert_close(plain.x0, ClassifierFree(6.0)(conditional, null, schedule)(x, t).x0)
    inner = Interval(ClassifierFree(6.0), 0.3, 0.7)(conditional, null, schedule)
    torch.testing.assert_close(inner(x, t).x0, plain.x0)
    early = torch.tensor(0.9, dtype=torch.float64)
    torch.testing.assert_close(inner(x, early).x0, conditional(x, early).x0)


def _pair_denoiser(schedule: Schedule, correlation: float) -> Denoiser:
    """Pairs of unit variance and a correlation."""
    covariance = torch.tensor([[1, correlation], [correlation, 1]], dtype=torch.float64)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        level = schedule.level(t)
        noisy = level.alpha**2 * covariance + level.sigma**2 * torch.eye(2, dtype=torch.float64)
        x0 = x @ torch.linalg.solve(noisy, level.alpha * covariance)
        return level.given_x0(x, x0)

    return denoise


@pytest.mark.parametrize("sampler", [DDPM(steps=40), DDIM(steps=40), DPMSolver(steps=40)])
@pytest.mark.parametrize("schedule", [cosine(), RectifiedFlow()])
def test_inpainting_keeps_known_pixels_and_repaint_finds_the_conditional_law(
    sampler: Sampler, schedule: Schedule
) -> None:
    """The second of a pair given the first is N(.8 first, .6²)."""
    known = torch.full((COUNT, 2), 1.5, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(COUNT, 2)
    noise = SampleNoise(0, range(COUNT))
    times = sampler.timesteps(schedule)

    def paint(resamplings: int) -> Tensor:
        x = noise.normal(known)
        painter = Inpainting(sampler, known, mask, resamplings)
        return painter(_pair_denoiser(schedule, 0.8), x, times, schedule, noise)

    blended, repainted = paint(1), paint(8)
    assert bool((blended[:, 0] == 1.5).all())
    assert bool((repainted[:, 0] == 1.5).all())
    gap = abs(float(repainted[:, 1].mean()) - 1.2)
    assert gap < 0.2
    assert gap < 0.5 * abs(float(blended[:, 1].mean()) - 1.2)
    assert float(repainted[:, 1].std()) == pytest.approx(0.6, abs=0.12)


@pytest.mark.parametrize("sampler", [DDPM(steps=50), DDIM(steps=50), DPMSolver(steps=50)])
def test_image_to_image_stays_near_its_input(sampler: Sampler) -> None:
    schedule = cosine()
    times = sampler.timesteps(schedule, start=0.3)
    assert float(times[0]) <= 0.3
    assert len(times) == 16
    level = schedule.level(times[0])
    noise = SampleNoise(0, range(COUNT))
    image = torch.full((COUNT, 1), 0.9, dtype=torch.float64)
    x = level.alpha * image + level.sigma * noise.normal(image)
    got = sampler(exact_denoiser(schedule, 1.0), x, times, schedule, noise)
    assert 0.5 < float(got.mean()) < 0.95
    with pytest.raises(UserError, match="start"):
        sampler.timesteps(schedule, start=0.001)
