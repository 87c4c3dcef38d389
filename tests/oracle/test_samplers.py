"""Samplers against the exact law of Gaussian data, to the printed digits of the closed form."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Prediction
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver
from ldmlab.diffusion.samplers.edm import Euler
from ldmlab.diffusion.samplers.langevin import PredictorCorrector
from ldmlab.diffusion.samplers.sampler import Final, Sampler, Spacing
from ldmlab.diffusion.samplers.unipc import UniPC
from ldmlab.diffusion.schedule import (
    KarrasVE,
    RectifiedFlow,
    Schedule,
    cosine,
    from_betas,
    linear,
    scaled_linear,
)
from tests.oracle.gaussian import exact_denoiser, sampled_std

SCHEDULES = {"linear": linear(), "cosine": cosine(), "scaled_linear": scaled_linear()}
STEPS = (10, 50, 250, 1000)

# schedule, s: DDPM with beta, with beta_tilde, then DDIM with 10, 50, 250 and 1000 steps.
TABLE = {
    ("linear", 0.5): (0.500752, 0.496110, 0.361612, 0.471915, 0.494271, 0.498495),
    ("linear", 1.0): (0.999950, 0.995524, 0.814586, 0.963383, 0.992642, 0.998124),
    ("linear", 2.0): (1.997641, 1.993684, 1.691612, 1.939513, 1.987829, 1.996852),
    ("cosine", 0.5): (0.500418, 0.497993, 0.421054, 0.484538, 0.496879, 0.499189),
    ("cosine", 1.0): (0.999979, 0.997546, 0.872246, 0.975287, 0.995068, 0.998754),
    ("scaled_linear", 0.5): (0.499347, 0.492791, 0.355383, 0.463472, 0.490847, 0.496572),
    ("scaled_linear", 1.0): (0.999250, 0.994112, 0.822685, 0.961954, 0.991507, 0.997299),
}


@pytest.mark.parametrize(("name", "s"), TABLE)
@pytest.mark.parametrize(("column", "variance"), [(0, "beta"), (1, "beta_tilde")])
def test_ddpm_has_the_exact_std(name: str, s: float, column: int, variance: str) -> None:
    sampler = DDPM(steps=1000, spacing="linspace", variance=variance)  # type: ignore[arg-type]
    assert sampled_std(sampler, SCHEDULES[name], s) == pytest.approx(
        TABLE[name, s][column], abs=1e-6
    )


@pytest.mark.parametrize(("name", "s"), TABLE)
@pytest.mark.parametrize(("column", "steps"), list(enumerate(STEPS, start=2)))
def test_ddim_has_the_exact_std(name: str, s: float, column: int, steps: int) -> None:
    sampler = DDIM(steps=steps, spacing="linspace")
    assert sampled_std(sampler, SCHEDULES[name], s) == pytest.approx(
        TABLE[name, s][column], abs=1e-6
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_with_eta_one_equals_ddpm(name: str) -> None:
    ddim = DDIM(steps=1000, spacing="linspace", eta=1.0)
    ddpm = DDPM(steps=1000, spacing="linspace", variance="beta_tilde")
    schedule = SCHEDULES[name]
    assert sampled_std(ddim, schedule, 0.5) == pytest.approx(
        sampled_std(ddpm, schedule, 0.5), abs=1e-12
    )


def _error(sampler: Sampler, schedule: Schedule, s: float) -> float:
    """Distance of the sampled deviation from s, started from the exact law at t = 1."""
    level = schedule.level(torch.tensor(1.0))
    start = math.sqrt(float(level.alpha**2 * s**2 + level.sigma**2))
    return abs(sampled_std(sampler, schedule, s, start=start) - s)


@pytest.mark.parametrize("s", [0.5, 2.0])
@pytest.mark.parametrize("schedule", [linear(), cosine(), RectifiedFlow()])
def test_ddim_converges_at_first_order(schedule: Schedule, s: float) -> None:
    assert _error(DDIM(steps=48), schedule, s) <= _error(DDIM(steps=12), schedule, s) / 3


@pytest.mark.parametrize("s", [0.5, 2.0])
@pytest.mark.parametrize("schedule", [linear(), cosine(), RectifiedFlow()])
def test_dpm_solver_is_closer_than_ddim_at_equal_steps(schedule: Schedule, s: float) -> None:
    assert _error(DPMSolver(steps=20), schedule, s) < 0.5 * _error(DDIM(steps=20), schedule, s)


def test_dpm_solver_converges_at_second_order() -> None:
    """Away from t = 0, where the log-SNR runs to infinity and the last step is of first order."""
    schedule, s = cosine(), 0.5

    def error(steps: int) -> float:
        times = torch.linspace(0.9, 0.2, steps + 1, dtype=torch.float64)
        first, last = schedule.level(times[0]), schedule.level(times[-1])
        start, end = (
            math.sqrt(float(level.alpha**2 * s**2 + level.sigma**2)) for level in (first, last)
        )
        return abs(sampled_std(DPMSolver(steps=steps), schedule, s, times, start) - end)

    assert error(64) <= error(16) / 12


@pytest.mark.parametrize("spacing", get_args(Spacing))
@pytest.mark.parametrize("sampler", [DDIM, DPMSolver, UniPC])
def test_sampler_with_more_steps_than_the_table_is_refused(
    sampler: type[Sampler], spacing: Spacing
) -> None:
    with pytest.raises(UserError, match=r"sampler\.steps=11 exceeds .*schedule\.num_steps=10"):
        sampler(steps=11, spacing=spacing).timesteps(cosine(10))
    # With a step an entry every solver still works.
    assert _error(sampler(steps=10), cosine(10), 0.5) < 0.2


def test_repeated_noise_levels_are_refused() -> None:
    still = from_betas([0.1, 0.1, 1e-20, 0.1])
    with pytest.raises(UserError, match="one noise level"):
        DPMSolver(steps=4).timesteps(still)


@pytest.mark.parametrize("sampler", [DDIM(steps=7), DDPM(steps=7), DPMSolver(steps=7)])
def test_every_sampler_reports_each_step_and_ends_on_the_denoised_sample(sampler: Sampler) -> None:
    from tests.oracle.gaussian import CoefficientNoise

    schedule = cosine()
    seen: list[int] = []
    x = torch.zeros(1, 9, dtype=torch.float64)
    x[:, 0] = 1
    sampler(
        exact_denoiser(schedule, 1e-9),  # data that is a single point: x0 = 0
        x,
        sampler.timesteps(schedule),
        schedule,
        CoefficientNoise(),
        lambda step, _: seen.append(step),
    )
    assert seen == list(range(1, 8))
    zero = sampler(
        exact_denoiser(schedule, 1e-9), x, sampler.timesteps(schedule), schedule, CoefficientNoise()
    )
    assert float(zero.abs().max()) < 1e-12


@pytest.mark.parametrize("final", get_args(Final))
@pytest.mark.parametrize("schedule", [cosine(), KarrasVE()])
def test_churn_does_not_depend_on_the_batch_split(schedule: Schedule, final: Final) -> None:
    sampler = Euler(steps=12, churn=4.0, final=final)
    x = SampleNoise(1, range(3)).normal(torch.empty(3, 5, dtype=torch.float64))
    x = x * float(schedule.level(torch.tensor(1.0)).scale)
    denoiser, times = exact_denoiser(schedule, 1.0), sampler.timesteps(schedule)
    whole = sampler(denoiser, x, times, schedule, SampleNoise(0, range(3)))
    noise, cut = SampleNoise(0, range(3)), x
    for i in range(len(times) - 1):
        cut = sampler(denoiser, cut, times[i : i + 2], schedule, noise)
    assert torch.equal(cut, whole)
    calm = PredictorCorrector(steps=12, predictor=sampler, corrections=0, final=final)
    assert torch.equal(calm(denoiser, x, times, schedule, SampleNoise(0, range(3))), whole)


def test_churn_is_divided_equally_over_the_steps() -> None:
    """Karras et al. (2022), algorithm 2: s rises by S_churn / N before each step but the first."""
    schedule, asked = KarrasVE(), []

    def denoise(x: torch.Tensor, t: torch.Tensor) -> Prediction:
        asked.append(float(schedule.level(t).sigma))
        return exact_denoiser(schedule, 1.0)(x, t)

    sampler = Euler(steps=10, churn=2.0)
    times = sampler.timesteps(schedule)
    sampler(denoise, torch.zeros(1, 2).double(), times, schedule, SampleNoise(0, range(1)))
    planned = schedule.level(times[:-1]).sigma
    torch.testing.assert_close(torch.tensor(asked).double()[1:], planned[1:] * 1.2)
