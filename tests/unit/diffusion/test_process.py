"""The loss and the denoiser of networks that answer with a constant."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from ldmlab.core.random import Noise, SampleNoise
from ldmlab.core.records import Conditioning
from ldmlab.diffusion.parameterization import EDM, X0, Eps, Flow, Parameterization, V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine, from_betas
from ldmlab.diffusion.timestep_sampler import TimeDraw, TimestepSampler
from ldmlab.diffusion.weighting import MinSNR, Unit, Velocity, Weighting


class _At(TimestepSampler):
    """One time for all samples, of one importance."""

    def __init__(self, t: float, weight: float = 1.0) -> None:
        self.t, self.weight = t, weight

    def __call__(self, schedule: Schedule, noise: Noise, like: Tensor) -> TimeDraw:
        t = torch.full((len(like),), self.t, dtype=torch.float64)
        return TimeDraw(t=t, weight=torch.full_like(t, self.weight))


def _constant(value: float):
    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        return torch.full_like(x, value)

    return network


def _losses(
    which: Parameterization,
    schedule: Schedule,
    weighting: Weighting,
    loss_type: Literal["l1", "l2"] = "l2",
    value: float = 0.5,
    at: TimestepSampler | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss of each sample of zeros, and its noise."""
    process = DiffusionProcess(schedule, which, weighting, at or _At(0.5), loss_type)
    x0 = torch.zeros(2, 3, dtype=torch.float64)
    terms = process.loss(_constant(value), x0, Conditioning(), SampleNoise(0, range(2)))
    return terms.per_sample, SampleNoise(0, range(2)).normal(x0)


@pytest.mark.parametrize("loss_type", ["l1", "l2"])
def test_loss_is_the_mean_error_of_each_sample(loss_type: Literal["l1", "l2"]) -> None:
    got, eps = _losses(Eps(), cosine(), Unit(), loss_type)
    power = 1 if loss_type == "l1" else 2
    want = torch.stack([sum(abs(0.5 - v) ** power for v in row) / 3 for row in eps])
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("loss_type", ["l1", "l2"])
def test_unit_loss_of_a_straight_path_is_of_eps(loss_type: Literal["l1", "l2"]) -> None:
    """At t = .75 x0 = x - .75 u, and eps = x + .25 u: an error in u counts a quarter."""
    flow, eps = _losses(Flow(), RectifiedFlow(), Unit(), loss_type, 0.0, _At(0.75))
    size = eps.abs() / 4 if loss_type == "l1" else (eps / 4).square()
    torch.testing.assert_close(flow, size.mean(1))


@pytest.mark.parametrize("which", [V(), Flow()])
def test_velocity_weight_gives_the_plain_error_of_a_velocity(which: Parameterization) -> None:
    """Of v on a circle and of u on a straight line, whatever the time."""
    schedule = cosine() if isinstance(which, V) else RectifiedFlow()
    for t in (0.2, 0.8):
        got, eps = _losses(which, schedule, Velocity(), value=0.0, at=_At(t))
        level = schedule.level(torch.tensor(t))
        target = eps * level.alpha if isinstance(which, V) else eps
        torch.testing.assert_close(got, target.square().mean(1), rtol=1e-6, atol=0)


def test_min_snr_loss_of_x0_is_clipped_at_gamma() -> None:
    """Hang et al. (2023): the weight of an error in x0 is min(SNR, gamma)."""
    schedule = from_betas([0.1, 1 / 9])  # alpha_bar .9 and .8: ratios of 9 and 4
    for t, snr in ((0.5, 9.0), (1.0, 4.0)):
        got, _ = _losses(X0(), schedule, MinSNR(5.0), value=0.5, at=_At(t))
        torch.testing.assert_close(got, torch.full_like(got, min(snr, 5.0) * 0.25))


def test_importance_weight_counts_in_the_loss_alone() -> None:
    plain, heavy = (
        DiffusionProcess(cosine(), V(), Unit(), _At(0.5, weight)).loss(
            _constant(0.5), torch.zeros(2, 3), Conditioning(), SampleNoise(0, range(2))
        )
        for weight in (1.0, 3.0)
    )
    torch.testing.assert_close(heavy.per_sample, 3 * plain.per_sample)
    torch.testing.assert_close(heavy.unweighted, plain.per_sample)
    assert heavy.t.tolist() == [0.5, 0.5]


def test_diffused_sample_is_signal_and_noise() -> None:
    process = DiffusionProcess(from_betas([0.64]), Eps(), Unit(), _At(1.0))
    x0, eps = torch.tensor([[2.0]]).double(), torch.tensor([[-1.0]]).double()
    got = process.diffuse(x0, torch.tensor([1.0]), eps)
    assert float(got) == pytest.approx(0.6 * 2 - 0.8)


@pytest.mark.parametrize(
    ("parameterization", "c_in", "time"), [(V(), 5**-0.5, 499), (EDM(0.5), None, None)]
)
def test_network_sees_the_scaled_sample_and_its_time(
    parameterization: Parameterization, c_in: float | None, time: float | None
) -> None:
    """sigma = 2 at t = .5, without a loss of signal."""
    schedule = KarrasVE(sigma_min=1.0, sigma_max=3.0, rho=1.0)
    seen: list[tuple[float, float]] = []

    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        seen.append((float(x[0, 0]), float(time[0])))
        return torch.zeros_like(x)

    process = DiffusionProcess(schedule, parameterization, Unit(), _At(0.5))
    denoise = process.denoiser(network, Conditioning())
    x = torch.full((2, 3), 7.0, dtype=torch.float64)
    for t in (torch.tensor(0.5), torch.tensor(0.5), torch.full((2,), 0.5)):
        denoise(x, t.double())
    # 1 / sqrt(1 + 4), and of EDM 1 / sqrt(.25 + 4) and ln(2) / 4.
    want = (7 * (c_in or 4.25**-0.5), time or 0.1732868)
    assert all(found == pytest.approx(want, rel=1e-6) for found in seen)


def test_edm_preconditioning_is_the_published_one() -> None:
    """Karras et al. (2022), table 1, at sigma = 2 and sigma_data = .5: D = c_skip x + c_out F."""
    schedule = KarrasVE(sigma_min=1.0, sigma_max=3.0, rho=1.0)
    process = DiffusionProcess(schedule, EDM(0.5), Unit(), _At(0.5))
    x = torch.full((1, 1), 7.0, dtype=torch.float64)
    t = torch.tensor(0.5, dtype=torch.float64)
    silent, loud = (process.denoiser(_constant(v), Conditioning())(x, t).x0 for v in (0.0, 1.0))
    assert float(silent) == pytest.approx(0.25 / 4.25 * 7)
    assert float(loud - silent) == pytest.approx(2 * 0.5 / 4.25**0.5)


def test_published_targets_have_their_signs() -> None:
    """Salimans & Ho (2022): v = alpha eps - sigma x0; Liu et al. (2022): u = eps - x0."""
    level = from_betas([0.64]).level(torch.tensor([1.0]))
    x0, eps = torch.tensor([[2.0]]).double(), torch.tensor([[5.0]]).double()
    targets = [float(which.target(x0, eps, level)) for which in (Eps(), X0(), V(), Flow())]
    assert targets == pytest.approx([5, 2, 0.6 * 5 - 0.8 * 2, 3])
