"""The multistep solvers where their integrals are known: x0 a line in the log-SNR."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import CoefficientNoise
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver
from ldmlab.diffusion.samplers.dpm_solver_sde import DPMSolverSDE
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.diffusion.samplers.unipc import UniPC
from ldmlab.diffusion.schedule import RectifiedFlow

FLOW = RectifiedFlow()
# lambda = log(alpha / sigma) is log 4 at t = .2 and -log 4 at t = .8.
TIMES = torch.tensor([0.8, 2 / 3, 0.5, 0.2], dtype=torch.float64)


def _half_log_snr(t: Tensor | float) -> float:
    return float(FLOW.level(torch.as_tensor(t)).log_snr) / 2


def _run(sampler: Sampler, answer) -> Tensor:
    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return FLOW.level(t).given_x0(x, torch.full_like(x, answer(_half_log_snr(t))))

    x = torch.zeros(1, 5, dtype=torch.float64)
    x[:, 0] = 1
    return sampler(denoise, x, TIMES, FLOW, CoefficientNoise())[0]


@pytest.mark.parametrize("sampler", [DPMSolver(), UniPC()])
def test_solver_is_exact_for_a_constant_x0(sampler: Sampler) -> None:
    """x_s = sigma_s / sigma_t x + (alpha_s - sigma_s alpha_t / sigma_t) x0."""
    got = _run(sampler, lambda _: 3.0)
    moved = 3 * (0.8 - 0.2 * 0.2 / 0.8)
    assert got.tolist() == pytest.approx([0.25 + moved, *[moved] * 4])


def test_dpm_solver_extrapolates_from_the_last_two_answers() -> None:
    """Steps of equal ratio: lambda rises by log 2, log 2 and then by log 4."""
    answers = {0.8: 1.0, 2 / 3: 5.0, 0.5: 7.0}

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        value = next(v for k, v in answers.items() if abs(k - float(t)) < 1e-9)
        return FLOW.level(t).given_x0(x, torch.full_like(x, value))

    x = torch.zeros(1, 1, dtype=torch.float64)
    got = DPMSolver()(denoise, x, TIMES, FLOW, CoefficientNoise())
    # D = x0 + h / (2 h_before) (x0 - before): 1, then 5 + 4 / 2, then 7 + 2.
    want = 0.0
    for (t, s), slope in zip([(0.8, 2 / 3), (2 / 3, 0.5), (0.5, 0.2)], (1, 7, 9), strict=True):
        want = s / t * want + (1 - s - s * (1 - t) / t) * slope
    assert float(got) == pytest.approx(want)


def test_sde_solver_adds_the_noise_that_it_takes() -> None:
    """Of x0 = 0: x_s = (sigma_s / sigma_t) exp(-h) x + sigma_s sqrt(1 - exp(-2h)) z."""
    got = _run(DPMSolverSDE(), lambda _: 0.0)
    # exp(-h) is 1/2, 1/2 and 1/4, and sigma goes from .8 over 2/3 and 1/2 to .2.
    first, second, third = (
        s * math.sqrt(1 - e**2) for s, e in ((2 / 3, 0.5), (0.5, 0.5), (0.2, 0.25))
    )
    later, last = 0.5 / (2 / 3) * 0.5, 0.2 / 0.5 * 0.25
    start = (2 / 3) / 0.8 * 0.5
    want = [start * later * last, first * later * last, second * last, third, 0]
    assert got.tolist() == pytest.approx(want)


def test_sde_solver_moves_a_constant_x0_by_its_integral() -> None:
    """E x_s = alpha_s x0 + decay (x - alpha x0): the mean of the bridge, after any steps."""
    still = _run(DPMSolverSDE(), lambda _: 0.0)[4]
    moved = _run(DPMSolverSDE(), lambda _: 3.0)[4]
    decay = 0.2 / 0.8 * (1 / 16)
    assert float(moved - still) == pytest.approx(3 * (0.8 - decay * 0.2))


def test_unipc_corrects_with_the_answer_at_the_end_of_a_step() -> None:
    """On x0 = tanh(lambda) it is left with the error of its last step, which nothing corrects."""
    steps = 32
    grid = torch.linspace(0.8, 0.2, steps + 1, dtype=torch.float64)
    asked: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        asked.append(float(t))
        return FLOW.level(t).given_x0(x, torch.full_like(x, math.tanh(_half_log_snr(t))))

    # The integral of d(x / sigma) = x0 d exp(lambda), by a fine midpoint rule.
    low, high = _half_log_snr(0.8), _half_log_snr(0.2)
    middle = low + (torch.arange(20_000).double() + 0.5) / 20_000 * (high - low)
    integral = float((middle.tanh() * middle.exp()).mean()) * (high - low)
    x = torch.ones(1, 1, dtype=torch.float64)
    errors = [
        abs(float(solver(denoise, x, grid, FLOW, CoefficientNoise())) / 0.2 - 1 / 0.8 - integral)
        for solver in (UniPC(), DPMSolver())
    ]
    assert errors[0] < errors[1] / 3
    assert len(asked) == 2 * steps
