"""Lists of timesteps."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import exact_denoiser, sampled_std

from ldmlab.core.errors import UserError
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver
from ldmlab.diffusion.samplers.sampler import Final, Sampler, Spacing
from ldmlab.diffusion.samplers.unipc import UniPC
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, linear, scaled_linear

TEN = linear(10, 0.01, 0.2)


@pytest.mark.parametrize(
    ("spacing", "final", "want"),
    [
        ("trailing", "data", [1, 0.75, 0.5, 0.25, 0]),
        ("trailing", "first_entry", [1, 0.75, 0.5, 0.25, 0.1]),
        ("linspace", "data", [1, 0.7, 0.4, 0.1, 0]),
        ("linspace", "first_entry", [1, 0.7, 0.4, 0.1]),
        ("leading", "data", [0.7, 0.5, 0.3, 0.1, 0]),
        ("leading_plus_one", "data", [1, 0.8, 0.6, 0.4, 0.2, 0]),
    ],
)
def test_timesteps_of_a_table(spacing: Spacing, final: Final, want: list[float]) -> None:
    times = DDIM(steps=4, spacing=spacing, final=final).timesteps(TEN)
    assert times.tolist() == pytest.approx(want)


def test_timesteps_of_a_formula_end_where_its_noise_begins() -> None:
    schedule = RectifiedFlow()
    times = DDIM(steps=3, spacing="linspace").timesteps(schedule)
    assert times.tolist() == pytest.approx([1, 0.5005, 0.001, 0])
    ended = DDIM(steps=2, final="first_entry").timesteps(schedule)
    assert ended.tolist() == pytest.approx([1, 0.5, 0.001])


def test_timesteps_start_at_or_below_the_strength() -> None:
    for start, want in ((0.75, [0.75, 0.5, 0.25, 0]), (0.74, [0.5, 0.25, 0]), (0.25, [0.25, 0])):
        assert DDIM(steps=4).timesteps(TEN, start=start).tolist() == pytest.approx(want)
    with pytest.raises(UserError, match="below start"):
        DDIM(steps=4).timesteps(TEN, start=0.2)


def test_karras_noise_levels_are_those_of_the_paper() -> None:
    """Karras et al. (2022), equation 5, with N = 5: its list of sigmas."""
    schedule = KarrasVE(sigma_min=0.002, sigma_max=80, rho=7)
    times = DDIM(steps=5, spacing="linspace").timesteps(schedule)
    want = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    assert schedule.level(times).sigma.tolist() == pytest.approx([*want, 0.0])
    # diffusers' KarrasDiffusionSchedulers and k-diffusion print the same middle: 2.5152.
    assert want[2] == pytest.approx(2.5152, abs=1e-4)


@pytest.mark.parametrize("sampler", [DPMSolver, UniPC])
@pytest.mark.parametrize("schedule", [scaled_linear(), linear()])
def test_the_last_step_hides_the_order_that_first_entry_shows(
    sampler: type[Sampler], schedule: Schedule
) -> None:
    """N(0, .1²) in twenty steps: the step to the data is of first order in every solver."""
    s, end = 0.1, schedule.level(torch.tensor(schedule.first_time))
    to_data = sampled_std(sampler(steps=20), schedule, s)
    to_entry = sampled_std(sampler(steps=20, final="first_entry"), schedule, s)
    wanted = math.hypot(float(end.alpha) * s, float(end.sigma))
    assert to_data / s < 0.9
    assert abs(to_entry / wanted - 1) < 0.3 * abs(to_data / s - 1)


def test_samplers_have_their_published_numbers_of_steps() -> None:
    assert (DDIM().steps, DPMSolver().steps, UniPC().steps) == (50, 20, 20)


def test_ddim_inverts_without_noise_whatever_eta() -> None:
    rising = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x = torch.ones(1, 4, dtype=torch.float64)
    from tests.oracle.gaussian import CoefficientNoise

    up, same = (
        DDIM(eta=eta)(exact_denoiser(TEN, 1.0), x, rising, TEN, CoefficientNoise())
        for eta in (0.0, 1.0)
    )
    assert torch.equal(up, same)
