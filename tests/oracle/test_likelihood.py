"""The variational bound and the ODE likelihood against entropies and densities known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ldmlab.core.random import Noise, SampleNoise
from ldmlab.core.records import Conditioning, Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.learned_variance import LearnedVariance
from ldmlab.diffusion.parameterization import Eps
from ldmlab.diffusion.probability_flow import log_likelihood
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.reverse import chain_step
from ldmlab.diffusion.schedule import (
    KarrasVE,
    RectifiedFlow,
    Schedule,
    TableSchedule,
    cosine,
    linear,
    scaled_linear,
)
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.vlb import prior_kl, variational_bound
from ldmlab.diffusion.weighting import VLB, Unit
from tests.oracle import mixture
from tests.oracle.gaussian import exact_denoiser

CHAINS = {"linear": linear(), "cosine": cosine(), "scaled_linear": scaled_linear()}


class PairedNoise(Noise):
    """Draws every number together with its negative, so that odd errors of a mean cancel.

    Normal numbers are a fixed even grid of the quantiles of N(0, 1), the same for each sample.
    """

    def __init__(self, count: int) -> None:
        u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        grid = torch.special.ndtri(u)
        self._grid = grid / grid.square().mean().sqrt()

    def normal(self, like: Tensor) -> Tensor:
        """The grid, one column a value of it."""
        return self._grid.expand_as(like)

    def uniform(self, like: Tensor) -> Tensor:
        """Halves."""
        return torch.full_like(like, 0.5)


def _gap(name: str, s: float, variance: str, decoder_variance: str | None = None) -> float:
    """Bound minus entropy of N(0, s²), in nats a value.

    All terms are quadratic in x0 and eps, so matching second moments gives the exact mean:
    rows are x0 = +-s, columns the paired grid of eps.
    """
    grid = 64
    x0 = torch.tensor([[s], [-s]], dtype=torch.float64).expand(2, grid).contiguous()
    bound = variational_bound(
        exact_denoiser(CHAINS[name], s),
        x0,
        CHAINS[name],
        PairedNoise(grid),
        variance=variance,  # type: ignore[arg-type]
        decoder_variance=decoder_variance,  # type: ignore[arg-type]
    )
    entropy = 0.5 * math.log(2 * math.pi * math.e * s * s)
    return float(bound.total.mean()) / grid - entropy


@pytest.mark.parametrize("name", CHAINS)
def test_vlb_equals_the_entropy_of_normal_data(name: str) -> None:
    assert abs(_gap(name, 1.0, "beta")) < 1e-5


@pytest.mark.parametrize(
    ("name", "s", "gap"),
    [
        ("linear", 0.5, 1.09e-3), ("linear", 2.0, 8.5e-4),
        ("cosine", 0.5, 6.1e-4), ("cosine", 2.0, 6.1e-4),
        ("scaled_linear", 0.5, 1.02e-3), ("scaled_linear", 2.0, 7.1e-4),
    ],
)  # fmt: skip
def test_vlb_has_the_known_gap_for_other_variances(name: str, s: float, gap: float) -> None:
    assert _gap(name, s, "beta") == pytest.approx(gap, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first_beta", "clipped"),
    [
        ("linear", 0.46489, 0.57859),
        ("cosine", 0.40664, 0.53446),
        ("scaled_linear", 0.29301, 0.44477),
    ],
)
def test_posterior_variance_widens_the_vlb_gap_as_known(
    name: str, first_beta: float, clipped: float
) -> None:
    assert _gap(name, 1.0, "beta_tilde", "beta") == pytest.approx(first_beta, abs=1e-5)
    assert _gap(name, 1.0, "beta_tilde") == pytest.approx(clipped, abs=1e-5)


@pytest.mark.parametrize(
    ("schedule", "bits"),
    [
        (linear(), 2.911e-05), (scaled_linear(), 1.027e-04),
        (linear(beta_start=0.0015, beta_end=0.0195), 1.853e-05),
        (scaled_linear(beta_end=0.0155), 4.825e-04), (scaled_linear(beta_end=0.0205), 6.991e-05),
        (scaled_linear(beta_start=0.00085, beta_end=0.012), 3.369e-03), (cosine(), 1.752e-09),
    ],
)  # fmt: skip
def test_vlb_prior_term_has_its_closed_form(schedule: TableSchedule, bits: float) -> None:
    x0 = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    got = prior_kl(schedule, x0) / math.log(2)
    assert got[0] == got[1]
    assert float(got[0]) == pytest.approx(bits, rel=5e-4)


def test_subsampled_vlb_terms_are_unbiased() -> None:
    schedule, s = cosine(num_steps=100), 0.7
    x0 = s * SampleNoise(0, range(3000)).normal(torch.empty(3000, 1, dtype=torch.float64))
    denoiser = exact_denoiser(schedule, s)
    full = variational_bound(denoiser, x0, schedule, SampleNoise(1, range(3000)))
    some = variational_bound(denoiser, x0, schedule, SampleNoise(1, range(3000)), terms=30)
    assert some.steps.shape == (3000, 30)
    assert float(some.steps.sum(1).mean()) == pytest.approx(
        float(full.steps.sum(1).mean()), rel=0.03
    )


def test_discretised_likelihood_of_a_sure_model_is_zero_bits() -> None:
    x0 = torch.arange(256, dtype=torch.float64).reshape(1, 256) / 127.5 - 1

    def sure(x: Tensor, t: Tensor) -> Prediction:
        return linear().level(t).given_x0(x, x0)

    # Steps of a fine chain end at a deviation of .002, well inside a byte's width of .0078.
    fine = linear(beta_start=4e-6)
    bound = variational_bound(
        sure, x0, fine, SampleNoise(0, [0]), "beta_tilde", decoder="discretised", terms=4
    )
    assert 0 <= float(bound.decoder.sum()) < 0.1 * 256
    assert float(bound.steps.sum()) < 1e-6


@pytest.mark.parametrize("schedule", [*CHAINS.values(), RectifiedFlow(), KarrasVE()])
def test_vlb_weight_turns_eps_error_into_its_vlb_term(schedule: Schedule) -> None:
    t = torch.arange(2, 1000, dtype=torch.float64) / 1000
    level, step = schedule.level(t), chain_step(schedule, t, 1000)
    error_in_eps = torch.linspace(-1, 1, len(t), dtype=torch.float64)
    error_in_x0 = error_in_eps * level.sigma / level.alpha
    want = 0.5 * (step.signal * error_in_x0).square() / step.variance
    got = VLB()(schedule, t) / 1000 * error_in_eps.square()
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)


def test_learned_variance_beats_both_fixed_variances() -> None:
    """L_hybrid moves the variance to where the bound is tightest, and leaves eps alone."""
    schedule, s = cosine(num_steps=20), 0.5
    parameterization = LearnedVariance(vlb_weight=1.0)
    process = DiffusionProcess(schedule, parameterization, Unit(), Uniform())
    places = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    eps_scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        step = ((time.double() + 1) / 1000 * 20).round()
        level = schedule.level(step / 20)
        a, v = broadcast_like(level.alpha, x), broadcast_like(level.sigma, x)
        eps = v / (a**2 * s**2 + v**2) * x
        place = broadcast_like(places[step.long() - 1], x).expand_as(x)
        return torch.cat([eps_scale * eps, place], dim=1)

    x0 = s * SampleNoise(0, range(128)).normal(torch.empty(128, 4, dtype=torch.float64))
    optimizer = torch.optim.Adam([places], lr=0.1)
    for step in range(80):
        loss = process.loss(network, x0, Conditioning(), SampleNoise(step, range(128)))
        optimizer.zero_grad()
        loss.per_sample.mean().backward()
        optimizer.step()
    only_bound = process.loss(network, x0, Conditioning(), SampleNoise(0, range(128)))
    simple = DiffusionProcess(schedule, Eps(), Unit(), Uniform()).loss(
        lambda x, time, c: network(x, time, c)[:, :4],
        x0,
        Conditioning(),
        SampleNoise(0, range(128)),
    )
    (got,) = torch.autograd.grad(only_bound.per_sample.mean(), eps_scale)
    (want,) = torch.autograd.grad(simple.per_sample.mean(), eps_scale)
    torch.testing.assert_close(got, want)
    denoiser = process.denoiser(network, Conditioning())
    bounds = {
        variance: float(
            variational_bound(denoiser, x0, schedule, SampleNoise(9, range(128)), variance=variance)
            .total.detach()
            .mean()
        )
        for variance in ("learned", "beta", "beta_tilde")
    }
    assert bounds["learned"] < bounds["beta"]
    assert bounds["learned"] < bounds["beta_tilde"]


@pytest.mark.parametrize(
    "schedule", [linear(), scaled_linear(), cosine(), RectifiedFlow(), KarrasVE()]
)
def test_probability_flow_gives_the_density_of_a_mixture(schedule: Schedule) -> None:
    x0 = torch.tensor(
        [[-1.2, 0.7], [0.0, 0.0], [0.5, -1.0], [1.3, 1.3], [-0.4, 0.9]], dtype=torch.float64
    )

    def denoiser(x: Tensor, t: Tensor) -> Prediction:
        return mixture.denoise(schedule.level(t), x)

    noise = SampleNoise(0, range(5))
    got = log_likelihood(denoiser, x0, schedule, noise, trace="exact", tolerance=1e-7)
    # The path starts at the first noise level, in units of the data.
    first = schedule.level(torch.tensor(schedule.first_time, dtype=torch.float64))
    start = mixture.log_density(first, first.alpha * x0) + torch.log(first.alpha)
    end = schedule.level(torch.tensor(1.0, dtype=torch.float64))
    assert float((got - start.sum(1)).abs().max()) < (1e-3 if float(end.alpha) < 0.01 else 2e-2)


def test_hutchinson_estimate_agrees_with_the_exact_trace() -> None:
    schedule = cosine()

    def denoiser(x: Tensor, t: Tensor) -> Prediction:
        return mixture.denoise(schedule.level(t), x)

    x0 = torch.linspace(-1.5, 1.5, 8, dtype=torch.float64).reshape(4, 2)
    exact = log_likelihood(denoiser, x0, schedule, SampleNoise(0, range(4)), "exact")
    probed = log_likelihood(denoiser, x0, schedule, SampleNoise(0, range(4)), "hutchinson")
    # The Jacobian is diagonal here, where probes of +-1 have no variance.
    torch.testing.assert_close(probed, exact, rtol=0, atol=1e-4)
