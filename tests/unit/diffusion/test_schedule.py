"""Schedules against their published constants."""

from __future__ import annotations

import math

import pytest
import torch

from ldmlab.diffusion.schedule import (
    KarrasVE,
    RectifiedFlow,
    Schedule,
    TableSchedule,
    cosine,
    linear,
    scaled_linear,
    sigmoid,
    zero_terminal_snr,
)

# alpha_bar at T, and the first 1-based step below one half.
PUBLISHED = [
    (linear(), 4.035829765e-05, 260),
    (scaled_linear(), 1.423039752e-04, 256),
    (linear(beta_start=0.0015, beta_end=0.0195), 2.569202526e-05, 207),
    (scaled_linear(beta_end=0.0155), 6.686651737e-04, 270),
    (scaled_linear(beta_end=0.0205), 9.691086681e-05, 253),
    (scaled_linear(beta_start=0.00085, beta_end=0.012), 4.660098513e-03, 355),
    (cosine(), 2.428766907e-09, 497),
]


@pytest.mark.parametrize(("schedule", "last", "half"), PUBLISHED)
def test_schedule_tables_have_the_published_constants(
    schedule: TableSchedule, last: float, half: int
) -> None:
    assert float(schedule.alphas_cumprod[-1]) == pytest.approx(last, rel=1e-9)
    assert int((schedule.alphas_cumprod >= 0.5).sum()) + 1 == half
    assert schedule.alphas_cumprod.dtype == torch.float64


@pytest.mark.parametrize("schedule", [linear(), cosine(), scaled_linear()])
def test_schedule_table_entries_lie_at_their_times(schedule: TableSchedule) -> None:
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    level = schedule.level(t)
    torch.testing.assert_close(level.alpha.square(), schedule.alphas_cumprod, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        level.sigma.square(), 1 - schedule.alphas_cumprod, rtol=1e-12, atol=1e-16
    )


def test_log_snr_is_linear_between_entries_and_t0_is_data() -> None:
    schedule = cosine()
    low, middle, high = schedule.level(
        torch.tensor([0.5, 0.50025, 0.501], dtype=torch.float64)
    ).log_snr
    assert float(middle) == pytest.approx(float(0.75 * low + 0.25 * high), rel=1e-9)
    data = schedule.level(torch.tensor([0.0, 1e-5, 1e-3], dtype=torch.float64))
    assert data.alpha[0] == 1
    assert data.sigma[0] == 0
    assert data.sigma[1] == data.sigma[2] > 0


@pytest.mark.parametrize("schedule", [linear(), cosine(), scaled_linear(), RectifiedFlow()])
def test_schedule_noise_only_grows(schedule: TableSchedule) -> None:
    level = schedule.level(torch.linspace(0.001, 0.999, 997, dtype=torch.float64))
    assert bool((level.log_snr.diff() < 0).all())


def test_betas_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="beta"):
        TableSchedule(torch.tensor([0.1, 0.0]))


@pytest.mark.parametrize(
    "schedule",
    [
        linear(), cosine(), scaled_linear(), sigmoid(), RectifiedFlow(), KarrasVE(),
        zero_terminal_snr(scaled_linear()),
    ],
)  # fmt: skip
def test_schedule_time_inverts_the_noise_level(schedule: Schedule) -> None:
    t = torch.linspace(max(schedule.first_time, 1e-6), 0.999, 313, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.level(t).log_snr), t, rtol=0, atol=1e-9)
    ends = torch.tensor([math.inf, -math.inf], dtype=torch.float64)
    assert schedule.time(ends).tolist() == [schedule.first_time, 1.0]


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_its_first_step() -> None:
    plain, shifted = scaled_linear(), zero_terminal_snr(scaled_linear())
    assert float(shifted.level(torch.tensor(1.0)).alpha) == 0
    assert float(shifted.alphas_cumprod[0]) == pytest.approx(float(plain.alphas_cumprod[0]))
    before = torch.tensor(0.999, dtype=torch.float64)
    assert 0 < float(shifted.level(before).alpha) < float(plain.level(before).alpha)


def test_sigmoid_schedule_follows_the_logistic_curve() -> None:
    curve = torch.sigmoid(torch.tensor([-3.0, 0.0, 3.0], dtype=torch.float64))
    want = (curve[2] - curve[1]) / (curve[2] - curve[0])
    assert float(sigmoid().alphas_cumprod[499]) == pytest.approx(float(want))
    assert float(sigmoid().alphas_cumprod[-1]) == pytest.approx(1e-9)


def test_karras_ve_spans_sigma_min_to_sigma_max() -> None:
    schedule = KarrasVE()
    level = schedule.level(torch.tensor([0.0, schedule.first_time, 1.0], dtype=torch.float64))
    assert level.sigma.tolist() == pytest.approx([0.0, 0.002, 80.0])
    assert level.alpha.tolist() == [1.0, 1.0, 1.0]
