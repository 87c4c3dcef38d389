"""The likelihood of normal data on chains that begin with much noise."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import BatchNoise, exact_denoiser
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.probability_flow import ProbabilityFlow, log_likelihood
from ldmlab.diffusion.schedule import KarrasVE, Schedule, from_betas

# alpha = .8 and sigma = .6 at the first entry; next to no signal at the last.
COARSE = from_betas([0.36, 0.5, 0.9, 0.99, 0.999])
SCHEDULES = [COARSE, KarrasVE(sigma_min=0.75, sigma_max=200.0)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("s", [0.5, 2.0])
def test_log_likelihood_is_that_of_the_data_with_its_first_noise(
    schedule: Schedule, s: float
) -> None:
    """Noise of .6 / .8 = .75 in units of the data: N(0, s² + .75²), three values a sample."""
    x0 = torch.tensor([[0.0, 0.5, -1.0], [2.0, 1.0, 0.3]], dtype=torch.float64)
    got = log_likelihood(
        exact_denoiser(schedule, s), x0, schedule, BatchNoise(), trace="exact", tolerance=1e-7
    )
    want = torch.distributions.Normal(0.0, math.hypot(s, 0.75)).log_prob(x0).sum(1)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-3)


def _correlated(schedule: Schedule):
    """Pairs of unit variance with a correlation of .9: a Jacobian that is not diagonal."""
    covariance = torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        level = schedule.level(t)
        noisy = level.alpha**2 * covariance + level.sigma**2 * torch.eye(2, dtype=torch.float64)
        return level.given_x0(x, x @ torch.linalg.solve(noisy, level.alpha * covariance))

    return denoise


def test_hutchinson_estimate_is_right_in_the_mean() -> None:
    x0 = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(256, 2).contiguous()
    law = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(),
        torch.tensor([[1.5625, 0.9], [0.9, 1.5625]], dtype=torch.float64),
    )
    exact, probed = (
        log_likelihood(_correlated(COARSE), x0, COARSE, BatchNoise(), trace=trace)
        for trace in ("exact", "hutchinson")
    )
    want = float(law.log_prob(x0[0]))
    assert float(exact.mean()) == pytest.approx(want, abs=2e-3)
    assert float(probed.std()) > 0.1
    assert float(probed.mean()) == pytest.approx(want, abs=4 * float(probed.std()) / 16)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_probability_flow_velocity_turns_x0_into_eps(schedule: Schedule) -> None:
    """Along cos(phi) x0 + sin(phi) eps, the path of a single pair."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return schedule.level(t).given_x0(x, torch.full_like(x, 3.0))

    flow = ProbabilityFlow(denoise, schedule)
    phi = flow.angle(0.7)
    y = torch.full((1, 1), math.cos(phi) * 3 + math.sin(phi) * 2, dtype=torch.float64)
    assert float(flow.velocity(y, phi)) == pytest.approx(math.cos(phi) * 2 - math.sin(phi) * 3)
    level = schedule.level(torch.tensor(0.7, dtype=torch.float64))
    assert math.tan(phi) == pytest.approx(float(level.sigma / level.alpha))
    assert flow.scale(0.7) == pytest.approx(math.hypot(float(level.alpha), float(level.sigma)))
