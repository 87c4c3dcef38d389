"""Distributions of the training times."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from ldmlab.core.random import SampleNoise
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine, linear
from ldmlab.diffusion.timestep_sampler import (
    LogitNormal,
    LogNormal,
    LossSecondMoment,
    Stratified,
    TimestepSampler,
    Uniform,
)

COUNT = 2000


def draw(times: TimestepSampler, schedule: Schedule, count: int = COUNT):
    return times(schedule, SampleNoise(0, range(count)), torch.empty(count, 1))


@pytest.mark.parametrize("times", [Uniform(), Stratified(), LossSecondMoment()])
@pytest.mark.parametrize("schedule", [linear(), RectifiedFlow()])
def test_uniform_times_are_uniform(times: TimestepSampler, schedule: Schedule) -> None:
    found = draw(times, schedule)
    assert stats.kstest(found.t.numpy(), "uniform").statistic < 0.035
    torch.testing.assert_close(found.weight, torch.ones_like(found.weight))
    assert float(found.t.min()) > 0
    assert float(found.t.max()) <= 1


def test_stratified_times_fill_every_stratum() -> None:
    t = draw(Stratified(), RectifiedFlow(), 64).t
    assert sorted((t * 64).floor().long().tolist()) == list(range(64))


def test_strata_are_those_of_the_global_batch() -> None:
    whole = draw(Stratified(), RectifiedFlow(), 8).t
    parts = [
        Stratified()(RectifiedFlow(), SampleNoise(0, range(k, k + 4), whole=8), torch.empty(4, 1)).t
        for k in (0, 4)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_log_normal_times_have_log_normal_noise() -> None:
    schedule = KarrasVE()
    level = schedule.level(draw(LogNormal(-1.2, 1.2), schedule).t)
    assert stats.kstest((level.sigma.log() + 1.2).numpy() / 1.2, "norm").statistic < 0.035
    middle = draw(LogitNormal(0, 1), schedule).t
    assert float(middle.median()) == pytest.approx(0.5, abs=0.03)


def test_second_moment_times_favour_large_losses_and_stay_unbiased() -> None:
    schedule = cosine()
    times = LossSecondMoment(bins=10, history=4)
    t = (torch.arange(40) % 10 + 0.5) / 10
    losses = torch.where(t > 0.85, 9.0, 1.0)
    times.observe(t[:39], losses[:39])
    assert torch.allclose(times.probabilities(), torch.full((10,), 0.1, dtype=torch.float64))
    times.observe(t[39:], losses[39:])
    found = draw(times, schedule)
    share = float((found.t > 0.9).double().mean())
    assert share == pytest.approx(0.5, abs=0.04)
    # Importance weights: the expectation of any function of t is that under uniform times.
    assert float((found.weight * found.t).mean()) == pytest.approx(0.5, abs=0.04)
    copy = LossSecondMoment(bins=10, history=4)
    copy.load_state_dict(times.state_dict())
    torch.testing.assert_close(copy.probabilities(), times.probabilities())


def test_second_moment_times_ignore_nan_losses() -> None:
    times = LossSecondMoment(bins=2, history=1)
    times.observe(torch.tensor([0.2, 0.8]), torch.tensor([float("nan"), 1.0]))
    assert times.count.tolist() == [0, 1]
