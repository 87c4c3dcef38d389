"""Euler's and Heun's steps on straight lines, and what churn adds."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import CoefficientNoise
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.samplers.edm import Euler, Heun
from ldmlab.diffusion.schedule import KarrasVE, cosine

# sigma = 1 + 9 t.
LINE = KarrasVE(sigma_min=1.0, sigma_max=10.0, rho=1.0)


def _asked(sampler: Euler, **start: float) -> tuple[list[float], Tensor]:
    """The sigmas at which a model that sees no signal is asked, and the coefficients of x."""
    seen: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        seen.append(float(LINE.level(t).sigma))
        return Prediction(x0=x, eps=torch.zeros_like(x))

    times = sampler.timesteps(LINE)
    x = torch.zeros(1, len(times) + 1, dtype=torch.float64)
    x[:, 0] = 1
    return seen, sampler(denoise, x, times, LINE, CoefficientNoise())


def test_churn_adds_the_variance_that_its_level_asks_for() -> None:
    """Steps at sigma 10, 7.75, 5.5 and 3.25: each but the first rises by a quarter of .4."""
    seen, x = _asked(Euler(steps=4, churn=0.4, churn_noise=1.0))
    assert seen == pytest.approx([10, 8.525, 6.05, 3.575])
    want = [1, *(math.sqrt(1.21 - 1) * sigma for sigma in (7.75, 5.5, 3.25)), 0, 0]
    assert x.flatten().tolist() == pytest.approx(want)


def test_churn_noise_scales_the_added_noise_alone() -> None:
    (plain, x), (loud, y) = (_asked(Euler(steps=4, churn=0.4, churn_noise=n)) for n in (1.0, 1.5))
    assert loud == pytest.approx(plain)
    assert y[0, 1:].tolist() == pytest.approx((1.5 * x[0, 1:]).tolist())
    assert float(y[0, 0]) == 1


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (0.0, math.inf, [10, 8.525, 6.05, 3.575]),
        (0.0, 6.0, [10, 7.75, 6.05, 3.575]),
        (4.0, math.inf, [10, 8.525, 6.05, 3.25]),
        (5.5, 5.5, [10, 7.75, 6.05, 3.25]),
    ],
)
def test_churn_is_kept_to_its_interval_of_noise(low: float, high: float, want: list[float]) -> None:
    seen, _ = _asked(Euler(steps=4, churn=0.4, churn_min=low, churn_max=high))
    assert seen == pytest.approx(want)


def test_churn_never_more_than_doubles_the_variance() -> None:
    seen, _ = _asked(Euler(steps=4, churn=100.0))
    assert seen[2:] == pytest.approx([5.5 * math.sqrt(2), 3.25 * math.sqrt(2)])


def test_churn_is_off_as_a_rule() -> None:
    seen, x = _asked(Euler(steps=4))
    assert seen == pytest.approx([10, 7.75, 5.5, 3.25])
    assert not x[0, 1:].any()


def test_heun_takes_the_mean_of_both_slopes() -> None:
    """dx / dsigma = sigma from 10 to 5.5: trapezoids are exact, (100 - 30.25) / 2."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        sigma = LINE.level(t).sigma
        return Prediction(x0=x - sigma**2, eps=torch.full_like(x, float(sigma)))

    times = torch.tensor([1.0, 0.5], dtype=torch.float64)
    x = torch.full((1, 1), 50.0, dtype=torch.float64)
    got = Heun()(denoise, x, times, LINE, CoefficientNoise())
    assert float(got) == pytest.approx(30.25 / 2)
    got = Euler()(denoise, x, times, LINE, CoefficientNoise())
    assert float(got) == pytest.approx(50 - 4.5 * 10)


def test_heun_calls_twice_a_step_but_for_the_one_to_the_data() -> None:
    seen, _ = _asked(Heun(steps=2))
    assert seen == pytest.approx([10, 5.5, 5.5])
    assert Heun().steps == 18


@pytest.mark.parametrize(("ratio", "calls"), [(29.0, 2), (31.0, 1)])
def test_heun_steps_over_a_great_fall_are_eulers(ratio: float, calls: int) -> None:
    schedule = cosine()
    level = schedule.level(torch.tensor(0.3, dtype=torch.float64))
    start = schedule.time(level.log_snr - 2 * math.log(ratio))
    asked: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        asked.append(float(t))
        return schedule.level(t).given_x0(x, torch.zeros_like(x))

    times = torch.stack([start, torch.tensor(0.3, dtype=torch.float64)])
    Heun()(denoise, torch.ones(1, 1, dtype=torch.float64), times, schedule, CoefficientNoise())
    assert len(asked) == calls
