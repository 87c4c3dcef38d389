"""Schedules against their published constants."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from ldmlab.diffusion.schedule import (
    KarrasVE,
    RectifiedFlow,
    Schedule,
    TableSchedule,
    cosine,
    from_betas,
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


def test_karras_ve_roots_lie_on_a_straight_line() -> None:
    """rho = 3 from 1 to 27: the cube root rises from 1 to 3, so that half way sigma is 8."""
    for rho, middle in ((3.0, 8.0), (1.0, 14.0)):
        schedule = KarrasVE(sigma_min=1.0, sigma_max=27.0, rho=rho)
        half = torch.tensor(0.5, dtype=torch.float64)
        assert float(schedule.level(half).sigma) == pytest.approx(middle)
        log_snr = torch.tensor(-2 * math.log(middle), dtype=torch.float64)
        assert float(schedule.time(log_snr)) == pytest.approx(0.5)
    assert (KarrasVE().sigma_min, KarrasVE().sigma_max, KarrasVE().rho) == (0.002, 80, 7)


def test_rectified_flow_is_a_straight_line() -> None:
    level = RectifiedFlow().level(torch.tensor([0.0, 0.25, 1.0]))
    assert level.alpha.tolist() == [1, 0.75, 0]
    assert level.sigma.tolist() == [0, 0.25, 1]
    # A ratio of 3 in amplitude.
    log_snr = torch.tensor(2 * math.log(3), dtype=torch.float64)
    assert float(RectifiedFlow().time(log_snr)) == pytest.approx(0.25)


def test_linear_and_scaled_linear_betas_have_their_ends_and_middles() -> None:
    straight, roots = linear(3, 0.04, 0.16), scaled_linear(3, 0.04, 0.16)
    assert straight.betas.tolist() == pytest.approx([0.04, 0.1, 0.16])
    assert roots.betas.tolist() == pytest.approx([0.04, 0.09, 0.16])
    assert from_betas([0.2, 0.5]).alphas_cumprod.tolist() == pytest.approx([0.8, 0.4])


def test_cosine_schedule_is_clipped_at_its_end_alone() -> None:
    """Without an offset alpha_bar is cos² of a right angle, cut into thirds: 3/4, 1/4 and 0."""
    plain = cosine(3, offset=0.0)
    want = [0.75, 0.25, 0.25 * (1 - 0.999)]
    assert plain.alphas_cumprod.tolist() == pytest.approx(want)
    assert float(cosine(3, offset=0.0, max_beta=0.9).betas[-1]) == 0.9
    # (1/2 + 1/4) / (5/4) of a right angle, over (1/4) / (5/4) of it.
    moved = cosine(2, offset=0.25)
    first = (math.cos(0.6 * math.pi / 2) / math.cos(0.2 * math.pi / 2)) ** 2
    assert float(moved.alphas_cumprod[0]) == pytest.approx(first)


def test_sigmoid_schedule_obeys_start_end_and_temperature() -> None:
    """A quarter of the way from logit log 2 to logit log 8 over a temperature of 2."""
    schedule = sigmoid(4, start=2 * math.log(2), end=2 * math.log(8), temperature=2.0)
    now = 1 / (1 + 2**-1.5)  # 2 * 4^(1/4)
    want = (8 / 9 - now) / (8 / 9 - 2 / 3)
    assert float(schedule.alphas_cumprod[0]) == pytest.approx(want)


def test_zero_terminal_snr_shifts_and_scales_the_amplitudes() -> None:
    """Amplitudes .9, .7 and .5 of Lin et al. (2023), algorithm 1: .9, .45 and 0."""
    bars = [1.0, 0.81, 0.49, 0.25]
    chain = from_betas([1 - after / before for before, after in pairwise(bars)])
    got = zero_terminal_snr(chain)
    assert got.alphas_cumprod.sqrt().tolist() == pytest.approx([0.9, 0.45, 0], abs=1e-9)
