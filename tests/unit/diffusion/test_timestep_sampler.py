"""Distributions of the training times."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

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


def _observed_one_by_one(times: LossSecondMoment, t: list[float], losses: list[float]) -> None:
    """Each loss in turn takes the place of its bin's oldest."""
    bins, history = times.losses.shape
    for time, loss in zip(t, losses, strict=True):
        if math.isfinite(loss):
            where = min(max(math.ceil(time * bins) - 1, 0), bins - 1)
            times.losses[where, int(times.count[where]) % history] = loss
            times.count[where] += 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("bins", "history"), [(5, 4), (1, 3), (50, 1), (7, 10)])
def test_second_moment_times_observe_a_batch_as_one_by_one(
    bins: int, history: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(bins)
    at_once, in_turn = (LossSecondMoment(bins, history) for _ in range(2))
    for count in (1, 0, 3, 40, 7, 200, 1000):  # fewer and more than all bins remember
        # A table's times: bins have several losses, some none, and edges are met exactly.
        t = torch.randint(1, 11, (count,), generator=generator).double() / 10
        losses = torch.rand(count, generator=generator, dtype=dtype)
        losses[torch.rand(count, generator=generator) < 0.1] = math.nan
        losses[torch.rand(count, generator=generator) < 0.1] = -math.inf
        at_once.observe(t, losses)
        _observed_one_by_one(in_turn, t.tolist(), losses.tolist())
        assert torch.equal(at_once.losses, in_turn.losses)
        assert torch.equal(at_once.count, in_turn.count)


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.total += 1
        return func(*args, **(kwargs or {}))


def test_second_moment_times_observe_in_constant_operations() -> None:
    operations = []
    for count in (2, 2000):
        with _Count() as counter:
            LossSecondMoment().observe(torch.rand(count).double(), torch.rand(count))
        operations.append(counter.total)
    assert operations[0] == operations[1] < 60


def test_logit_normal_times_have_their_mean_and_deviation() -> None:
    t = draw(LogitNormal(0.5, 0.4), RectifiedFlow()).t
    assert stats.kstest((torch.logit(t).numpy() - 0.5) / 0.4, "norm").statistic < 0.035
    found = draw(LogitNormal(0.5, 2.0), RectifiedFlow())
    assert stats.kstest((torch.logit(found.t).numpy() - 0.5) / 2, "norm").statistic < 0.035
    assert bool((found.weight == 1).all())
    assert (LogitNormal().mean, LogitNormal().std) == (0, 1)


def test_log_normal_times_have_their_own_deviation() -> None:
    schedule = KarrasVE()
    level = schedule.level(draw(LogNormal(0.3, 0.5), schedule).t)
    assert stats.kstest((level.sigma.log() - 0.3).numpy() / 0.5, "norm").statistic < 0.035
    # Of a chain the noise is relative to the signal.
    level = cosine().level(draw(LogNormal(0.3, 0.5), cosine()).t)
    relative = (level.sigma / level.alpha).log()
    assert stats.kstest((relative - 0.3).numpy() / 0.5, "norm").statistic < 0.035
    assert (LogNormal().mean, LogNormal().std) == (-1.2, 1.2)


def test_uniform_times_are_the_entries_of_a_table() -> None:
    t = draw(Uniform(), linear(5, 0.1, 0.2)).t
    assert torch.unique(t).tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert torch.bincount((t * 5).round().long())[1:].min() > COUNT / 5 * 0.85


def test_second_moment_times_go_by_the_root_of_the_mean_square() -> None:
    """Losses of 3 and of (1, 7), whose mean is 4 and whose root mean square 5: 3 to 5."""
    times = LossSecondMoment(bins=2, history=2, uniform_share=0.2)
    times.observe(
        torch.tensor([0.1, 0.9, 0.2, 0.8], dtype=torch.float64), torch.tensor([3.0, 1.0, 3.0, 7.0])
    )
    want = [0.8 * 3 / 8 + 0.1, 0.8 * 5 / 8 + 0.1]
    assert times.probabilities().tolist() == pytest.approx(want)
    found = draw(times, RectifiedFlow())
    low = found.t <= 0.5
    assert float(low.double().mean()) == pytest.approx(want[0], abs=0.03)
    torch.testing.assert_close(
        found.weight, torch.where(low, 0.5 / want[0], 0.5 / want[1]).double(), rtol=1e-6, atol=0
    )
    # Within a bin they are uniform.
    assert stats.kstest(found.t[low].numpy() * 2, "uniform").statistic < 0.05
    share = LossSecondMoment()
    assert (*share.losses.shape, share.uniform_share) == (50, 10, 0.001)


def test_second_moment_times_put_the_end_of_a_bin_into_it() -> None:
    times = LossSecondMoment(bins=4, history=1)
    times.observe(torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64), torch.ones(3))
    assert times.count.tolist() == [1, 1, 0, 1]
