"""The algebra of targets: round trips, one loss for all, singular pairs refused."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Conditioning
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.learned_variance import LearnedVariance
from ldmlab.diffusion.parameterization import EDM, X0, Eps, Flow, Parameterization, V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.schedule import (
    KarrasVE,
    RectifiedFlow,
    Schedule,
    cosine,
    linear,
    scaled_linear,
    sigmoid,
    zero_terminal_snr,
)
from ldmlab.diffusion.timestep_sampler import LogitNormal, Stratified, Uniform
from ldmlab.diffusion.weighting import EDM as EDMWeight
from ldmlab.diffusion.weighting import VLB, MinSNR, SoftMinSNR, Sum, Unit, Velocity, Weighting

ALL = [Eps(), X0(), V(), Flow(), EDM(), EDM(data_std=0.5)]


@settings(deadline=None, max_examples=30)
@given(
    which=st.sampled_from(ALL),
    t=st.lists(st.floats(0.02, 0.97), min_size=4, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_solving_a_target_recovers_x0_and_eps(
    which: Parameterization, t: list[float], seed: int
) -> None:
    # Four samples of 4 x 4: a batch as long as a side hides no broadcasting mistake.
    noise = SampleNoise(seed, range(4))
    like = torch.empty(4, 4, 4, dtype=torch.float64)
    x0, eps = noise.normal(like), noise.normal(like)
    times = torch.tensor(t, dtype=torch.float64)
    level = cosine().level(times)
    x = broadcast_like(level.alpha, x0) * x0 + broadcast_like(level.sigma, x0) * eps
    prediction = which.predict(which.target(x0, eps, level), x, which.preconditioning(times, level))
    torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=1e-11)
    torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-11)


def _as_network(which: Parameterization, schedule: Schedule):
    """One imperfect denoiser, spoken in a parameterisation's own target."""

    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        level = schedule.level((time.double() + 1) / 1000)
        eps_hat = torch.tanh(x) * 0.7
        a, s = broadcast_like(level.alpha, x), broadcast_like(level.sigma, x)
        return which.target((x - s * eps_hat) / a, eps_hat, level)

    return network


WEIGHTINGS = [
    Unit(), Velocity(), MinSNR(), SoftMinSNR(), EDMWeight(), VLB(), VLB(variance="beta_tilde"),
    Sum([0.7, 0.001], [Unit(), VLB()]),
]  # fmt: skip


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("schedule", [linear(), RectifiedFlow()])
@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_loss_does_not_depend_on_the_parameterization(
    weighting: Weighting, schedule: Schedule, distance: Literal["l1", "l2"]
) -> None:
    times = LogitNormal(std=0.5) if schedule.num_steps is None else Uniform()
    x0 = SampleNoise(3, range(6)).normal(torch.empty(6, 2, 6, 6, dtype=torch.float64))
    losses = []
    for which in (V(), X0(), Flow()):
        process = DiffusionProcess(schedule, which, weighting, times, distance)
        terms = process.loss(
            _as_network(which, schedule), x0, Conditioning(), SampleNoise(1, range(6))
        )
        losses.append(terms.per_sample)
    # float32 network times put the level off by 1e-7 of a step.
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-4, atol=0)
    torch.testing.assert_close(losses[2], losses[0], rtol=2e-4, atol=0)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), zero_terminal_snr(scaled_linear())])
@pytest.mark.parametrize("which", [Eps(), EDM()])
def test_singular_parameterization_is_refused(which: Parameterization, schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="no signal is left"):
        DiffusionProcess(schedule, which, Unit(), Uniform())


def test_learned_variance_needs_a_discrete_schedule() -> None:
    with pytest.raises(ValueError, match="chain"):
        DiffusionProcess(KarrasVE(), LearnedVariance(), Unit(), Uniform())


class _Demanding(V):
    """Asks for one more, and reads the first half of the channels."""

    def answer(self, output: Tensor) -> Tensor:
        return output.chunk(2, dim=1)[0]

    def further_loss(self, output: Tensor, *rest: object) -> Tensor:
        return output.chunk(2, dim=1)[1].flatten(1).mean(1)


def test_parameterization_may_add_its_own_loss() -> None:
    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        return torch.cat([x / 2, torch.ones_like(x)], dim=1)

    def plain(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        return x / 2

    x0 = SampleNoise(3, range(4)).normal(torch.empty(4, 3, 5))
    asked, bare = (
        DiffusionProcess(cosine(), which, Unit(), Uniform())
        .loss(spoken, x0, Conditioning(), SampleNoise(1, range(4)))
        .per_sample
        for which, spoken in ((_Demanding(), network), (V(), plain))
    )
    torch.testing.assert_close(asked, bare + 1)


@pytest.mark.parametrize("which", [Eps(4000), X0(), V()])
def test_network_time_is_the_table_index(which: Parameterization) -> None:
    t = torch.tensor([1 / which.num_times, 0.5, 1.0], dtype=torch.float64)
    seen = which.preconditioning(t, cosine().level(t)).c_noise
    expected = [0.0, which.num_times / 2 - 1, which.num_times - 1.0]
    torch.testing.assert_close(seen, torch.tensor(expected, dtype=torch.float64))


SCHEDULES = [
    linear(), scaled_linear(), cosine(), sigmoid(), RectifiedFlow(), KarrasVE(),
    zero_terminal_snr(scaled_linear()),
]  # fmt: skip


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_accepted_combination_has_a_finite_loss(
    weighting: Weighting, schedule: Schedule
) -> None:
    def silent(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        assert bool(torch.isfinite(time).all())
        return torch.zeros_like(x)

    x0 = SampleNoise(3, range(64)).normal(torch.empty(64, 5))
    trained = 0
    for which in ALL:
        try:
            process = DiffusionProcess(schedule, which, weighting, Stratified())
        except ValueError:
            continue
        loss = process.loss(silent, x0, Conditioning(), SampleNoise(1, range(64))).per_sample
        assert bool(torch.isfinite(loss).all())
        assert float(loss.min()) >= 0
        trained += 1
    assert trained >= 3


def test_edm_weight_gives_unit_loss_at_every_noise_level() -> None:
    schedule, which = KarrasVE(), EDM(data_std=0.7)
    process = DiffusionProcess(schedule, which, EDMWeight(data_std=0.7), Uniform())

    def silent(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        return torch.zeros_like(x)

    x0 = 0.7 * SampleNoise(3, range(4000)).normal(torch.empty(4000, 3, dtype=torch.float64))
    terms = process.loss(silent, x0, Conditioning(), SampleNoise(1, range(4000)))
    # Unit targets at every noise level: the silent network's loss is 1 in each part of [0, 1].
    for part in range(4):
        inside = (terms.t * 4).long() == part
        assert float(terms.per_sample[inside].mean()) == pytest.approx(1.0, abs=0.06)


def test_input_scaling_never_exceeds_one() -> None:
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    for schedule in SCHEDULES:
        level = schedule.level(t)
        assert float((V().c_in(level) * level.scale).max()) <= 1 + 1e-12
    assert torch.equal(Eps().c_in(RectifiedFlow().level(t)), torch.ones_like(t))


def test_network_time_is_the_published_integer_step() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        seen.append(time)
        return torch.zeros_like(x)

    process = DiffusionProcess(linear(), Eps(), Unit(), Uniform())
    x0 = torch.zeros(512, 1)
    process.loss(network, x0, Conditioning(), SampleNoise(0, range(512)))
    times = seen[0]
    torch.testing.assert_close(times, times.round(), rtol=0, atol=1e-3)
    assert times.min() >= -1e-3
    assert times.max() <= 999.001


def test_simple_loss_of_a_zero_network_is_one() -> None:
    def silent(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        return torch.zeros_like(x)

    process = DiffusionProcess(linear(), Eps(), Unit(), Uniform())
    terms = process.loss(silent, torch.zeros(64, 500), Conditioning(), SampleNoise(0, range(64)))
    assert float(terms.per_sample.mean()) == pytest.approx(1.0, abs=0.02)
