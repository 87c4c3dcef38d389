"""Langevin steps keep the law of the noised data, in any number of dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from tests.oracle.gaussian import BatchNoise, CoefficientNoise, exact_denoiser, sampled_std
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.records import Prediction
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.langevin import AnnealedLangevin, PredictorCorrector
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import KarrasVE, Schedule, cosine, from_betas


@dataclass(frozen=True)
class _Still(Sampler):
    """A predictor that does nothing: what is left are the corrections."""

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        timesteps: Tensor,
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        return x


def _corrected(
    denoiser: Denoiser, x: Tensor, schedule: Schedule, corrections: int, snr: float = 0.16
) -> Tensor:
    """The corrections alone, at t = .5."""
    sampler = PredictorCorrector(predictor=_Still(), corrections=corrections, snr=snr)
    times = torch.tensor([0.501, 0.5], dtype=torch.float64)
    return sampler(denoiser, x, times, schedule, BatchNoise(1))


@pytest.mark.parametrize("dimensions", [2, 16, 64])
def test_predictor_corrector_keeps_the_variance_in_any_dimension(dimensions: int) -> None:
    schedule = cosine()
    level = schedule.level(torch.tensor(0.5, dtype=torch.float64))
    std = math.hypot(float(level.alpha) * 0.5, float(level.sigma))
    count = 16_000 // dimensions
    x = BatchNoise().normal(torch.empty(count, dimensions, dtype=torch.float64))
    got = _corrected(exact_denoiser(schedule, 0.5), std * x, schedule, corrections=80)
    assert float(got.var()) / std**2 == pytest.approx(1, abs=0.06)
    assert not torch.allclose(got, std * x, atol=0.1)


def test_predictor_corrector_keeps_the_weights_of_a_mixture() -> None:
    """Four corners of weights .1, .2, .3 and .4: a step that grows far out would level them."""
    schedule = KarrasVE(sigma_min=0.01, sigma_max=4.0, rho=1.0)
    t = torch.tensor(0.5, dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    corners = torch.tensor([[-3, -3], [-3, 3], [3, -3], [3, 3]], dtype=torch.float64)
    sigma = float(schedule.level(t).sigma)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        share = torch.softmax(
            weights.log() - torch.cdist(x, corners).square() / (2 * sigma**2), dim=1
        )
        return schedule.level(t).given_x0(x, share @ corners)

    where = torch.repeat_interleave(torch.arange(4), (weights * 2000).long())
    noise = BatchNoise().normal(torch.empty(2000, 2, dtype=torch.float64))
    x = corners[where] + sigma * noise
    moved = _corrected(denoise, x, schedule, corrections=150, snr=0.3)
    assert float((moved.sign() != x.sign()).double().mean()) > 0.1  # they do change corners

    def quadrants(x: Tensor) -> Tensor:
        return torch.bincount((x[:, 0] > 0) * 2 + (x[:, 1] > 0).long(), minlength=4) / len(x)

    torch.testing.assert_close(quadrants(moved), quadrants(x), rtol=0, atol=0.04)


def test_predictor_corrector_steps_by_the_level_and_its_own_beta() -> None:
    """x - r eps / sigma + sqrt(2 r) z with r = 2 (1 - beta) (snr sigma)², worked out by hand."""
    schedule = from_betas([0.36, 0.75])  # sigma² = .36 and .84
    sampler = PredictorCorrector(predictor=_Still(), corrections=1, snr=0.5)
    times = torch.tensor([1.0, 0.5], dtype=torch.float64)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        assert float(t) == 0.5  # asked where the predictor ended
        return Prediction(x0=torch.zeros_like(x), eps=torch.full_like(x, 3.0))

    x = torch.zeros(1, 3, dtype=torch.float64)
    got = sampler(denoise, x, times, schedule, CoefficientNoise())
    size = 2 * 0.25 * (0.5 * 0.6) ** 2
    step = -size * 3 / 0.6
    want = torch.tensor([[step, step + math.sqrt(2 * size), step]], dtype=torch.float64)
    torch.testing.assert_close(got, want)


def test_predictor_corrector_leaves_the_data_uncorrected() -> None:
    schedule, asked = cosine(), []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        asked.append(float(t))
        return exact_denoiser(schedule, 1.0)(x, t)

    sampler = PredictorCorrector(steps=4, corrections=2)
    x = torch.zeros(1, 3, dtype=torch.float64)
    sampler(denoise, x, sampler.timesteps(schedule), schedule, BatchNoise())
    assert asked == [1.0, 0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("schedule", [cosine(), KarrasVE(sigma_max=20)])
def test_annealed_langevin_settles_at_its_stationary_deviation(schedule: Schedule) -> None:
    """On N(0, s²), x <- (1 - r q / 2) x + sigma sqrt(r) z with q the noise's share of variance."""
    sampler = AnnealedLangevin(inner_steps=400, step_size=0.3)
    level = schedule.level(torch.tensor(0.6, dtype=torch.float64))
    s, alpha, sigma = 0.7, float(level.alpha), float(level.sigma)
    share = sigma**2 / (alpha**2 * s**2 + sigma**2)
    want = sigma * math.sqrt(0.3 / (1 - (1 - 0.3 * share / 2) ** 2))
    times = torch.tensor([0.6, 0.6 - 1e-9], dtype=torch.float64)
    x = torch.zeros(1, 402, dtype=torch.float64)
    x[:, 0] = 5
    got = sampler(exact_denoiser(schedule, s), x, times, schedule, CoefficientNoise())
    assert float(got.norm()) == pytest.approx(want, rel=1e-4)


def test_annealed_langevin_ends_on_the_denoised_sample() -> None:
    schedule = cosine()
    sampler = AnnealedLangevin(steps=20, inner_steps=1)
    x = torch.zeros(1, 22, dtype=torch.float64)
    x[:, 0] = 1
    times = sampler.timesteps(schedule)
    got = sampler(exact_denoiser(schedule, 1e-9), x, times, schedule, CoefficientNoise())
    assert float(got.abs().max()) < 1e-12
    assert sampled_std(sampler, schedule, 1e-9) < 1e-6
