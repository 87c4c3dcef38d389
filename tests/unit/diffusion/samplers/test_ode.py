"""The adaptive solver follows the path of a normal law from any time to any other."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import BatchNoise, exact_denoiser
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.samplers.ode import ODE
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine, from_betas


def _std(schedule: Schedule, t: float, s: float) -> float:
    level = schedule.level(torch.tensor(t, dtype=torch.float64))
    return math.hypot(float(level.alpha) * s, float(level.sigma))


@pytest.mark.parametrize("schedule", [cosine(), RectifiedFlow(), KarrasVE(sigma_max=20)])
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.2), (0.3, 0.7)])
def test_ode_carries_a_normal_law_between_its_deviations(
    schedule: Schedule, t: float, s: float
) -> None:
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64) * _std(schedule, t, 0.5)
    times = torch.tensor([t, s], dtype=torch.float64)
    denoiser = exact_denoiser(schedule, 0.5)
    got = ODE(tolerance=1e-7)(denoiser, x, times, schedule, BatchNoise())
    want = torch.tensor([[1.0, -2.0]], dtype=torch.float64) * _std(schedule, s, 0.5)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)


def test_ode_ends_on_the_denoised_sample_of_the_first_entry() -> None:
    schedule = from_betas([0.36, 0.75])
    asked: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        asked.append(float(t))
        return exact_denoiser(schedule, 1.0)(x, t)

    x = torch.ones(1, 1, dtype=torch.float64)
    times = torch.tensor([1.0, 0.0], dtype=torch.float64)
    got = ODE(tolerance=1e-7)(denoise, x, times, schedule, BatchNoise())
    # Unit variance throughout: 1 stays 1, and at alpha = .8 the estimate is .8 of it.
    assert float(got) == pytest.approx(0.8, rel=1e-5)
    assert min(asked) == asked[-1] == 0.5


def test_ode_takes_more_steps_for_less_error() -> None:
    calls = []
    for tolerance, method in ((1e-2, "RK45"), (1e-6, "RK45"), (1e-6, "RK23"), (1e-6, "DOP853")):
        count = 0

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            nonlocal count
            count += 1
            return exact_denoiser(cosine(), 0.2)(x, t)

        sampler = ODE(tolerance=tolerance, method=method)  # type: ignore[arg-type]
        times = sampler.timesteps(cosine())
        sampler(denoise, torch.ones(1, 1).double(), times, cosine(), BatchNoise())
        calls.append(count)
    assert calls[1] > 2 * calls[0]
    assert calls[2] > 2 * calls[1]
    assert calls[3] not in calls[:3]
