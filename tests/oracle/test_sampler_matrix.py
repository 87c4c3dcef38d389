"""Every sampler on every parameterisation and schedule, against the exact law of a mixture.

In one dimension the probability-flow path keeps quantiles: a sample that starts at the quantile
u of p_1 ends at the quantile u of p_0. Deterministic samplers are held to that point by point,
stochastic ones to the quantiles of their samples.
"""

from __future__ import annotations

import pytest
import torch

from ldmlab.core.random import SampleNoise
from ldmlab.diffusion.parameterization import EDM, X0, Eps, Flow, Parameterization, V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver
from ldmlab.diffusion.samplers.dpm_solver_sde import DPMSolverSDE
from ldmlab.diffusion.samplers.edm import Euler, Heun
from ldmlab.diffusion.samplers.langevin import AnnealedLangevin, PredictorCorrector
from ldmlab.diffusion.samplers.ode import ODE
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.diffusion.samplers.unipc import UniPC
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
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import Unit
from tests.oracle import mixture

SCHEDULES: dict[str, Schedule] = {
    "linear": linear(),
    "scaled_linear": scaled_linear(),
    "cosine": cosine(),
    "sigmoid": sigmoid(),
    "zero_terminal_snr": zero_terminal_snr(scaled_linear()),
    "rectified_flow": RectifiedFlow(),
    "karras_ve": KarrasVE(sigma_max=20.0),
}
PARAMETERIZATIONS: dict[str, Parameterization] = {
    "eps": Eps(),
    "x0": X0(),
    "v": V(),
    "flow": Flow(),
    "edm": EDM(data_std=1.0),
}
# Singular at t = 1: refused, as test_parameterization shows.
REFUSED = {(p, s) for p in ("eps", "edm") for s in ("rectified_flow", "zero_terminal_snr")}
PAIRS = [(p, s) for p in PARAMETERIZATIONS for s in SCHEDULES if (p, s) not in REFUSED]

# Sampler and the largest root-mean-square distance from the exact end points; the last step, to
# the data, is of first order in all but the adaptive solver.
DETERMINISTIC: dict[str, tuple[Sampler, float]] = {
    "ddim": (DDIM(steps=100), 0.03),
    "euler": (Euler(steps=100), 0.03),
    "dpm_solver": (DPMSolver(steps=50), 0.03),
    "unipc": (UniPC(steps=50), 0.03),
    "heun": (Heun(steps=50), 0.03),
    "ode": (ODE(tolerance=1e-6), 0.005),
}
# Sampler and the largest mean distance of sorted samples from the exact quantiles.
STOCHASTIC: dict[str, tuple[Sampler, float]] = {
    "ddpm_beta": (DDPM(steps=250, variance="beta"), 0.06),
    "ddpm_beta_tilde": (DDPM(steps=250), 0.06),
    "ddim_eta1": (DDIM(steps=250, eta=1.0), 0.06),
    "dpm_solver_sde": (DPMSolverSDE(steps=60), 0.06),
    "heun_churn": (Heun(steps=60, churn=20.0), 0.06),
    "predictor_corrector": (PredictorCorrector(steps=150, snr=0.1), 0.08),
    "annealed_langevin": (AnnealedLangevin(steps=60, inner_steps=8, step_size=0.3), 0.1),
}


def _process(parameterization: str, schedule: str) -> DiffusionProcess:
    return DiffusionProcess(
        SCHEDULES[schedule], PARAMETERIZATIONS[parameterization], Unit(), Uniform()
    )


def _run(sampler: Sampler, process: DiffusionProcess, u: torch.Tensor, seed: int) -> torch.Tensor:
    schedule = process.schedule
    times = sampler.timesteps(schedule)
    x = mixture.quantile(schedule.level(times[0]), u)
    denoiser = mixture.exact_denoiser(process, schedule)
    return sampler(denoiser, x, times, schedule, SampleNoise(seed, range(len(x))))


@pytest.mark.parametrize(("parameterization", "schedule"), PAIRS)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_keep_quantiles(
    name: str, parameterization: str, schedule: str
) -> None:
    sampler, tolerance = DETERMINISTIC[name]
    u = torch.linspace(0.01, 0.99, 33, dtype=torch.float64).unsqueeze(1)
    got = _run(sampler, _process(parameterization, schedule), u, 0)
    data = SCHEDULES[schedule].level(torch.tensor(0.0))
    error = (got - mixture.quantile(data, u)).square().mean().sqrt()
    assert float(error) < tolerance


@pytest.mark.parametrize("schedule", ["linear", "cosine", "karras_ve", "rectified_flow"])
@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_draw_from_the_mixture(name: str, schedule: str) -> None:
    sampler, tolerance = STOCHASTIC[name]
    u = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64).reshape(8, 125)
    got = _run(sampler, _process("v", schedule), u, 1).flatten().sort().values
    data = SCHEDULES[schedule].level(torch.tensor(0.0))
    want = mixture.quantile(data, u).flatten().sort().values
    assert float((got - want).abs().mean()) < tolerance


@pytest.mark.parametrize("schedule", ["linear", "cosine", "karras_ve", "rectified_flow"])
@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("euler", 1), ("dpm_solver", 2), ("unipc", 2), ("heun", 2)]
)
def test_samplers_converge_at_their_order(name: str, order: int, schedule: str) -> None:
    """Between two noisy times, on the non-linear denoiser."""
    process = _process("v", schedule)
    u = torch.linspace(0.05, 0.95, 19, dtype=torch.float64).unsqueeze(1)

    def error(steps: int) -> float:
        times = torch.linspace(0.8, 0.3, steps + 1, dtype=torch.float64)
        first, last = (process.schedule.level(t) for t in (times[0], times[-1]))
        denoiser = mixture.exact_denoiser(process, process.schedule)
        got = DETERMINISTIC[name][0](
            denoiser,
            mixture.quantile(first, u),
            times,
            process.schedule,
            SampleNoise(0, range(len(u))),
        )
        return float((got - mixture.quantile(last, u)).abs().max())

    assert error(64) < error(16) / (0.75 * 4**order)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "rectified_flow"])
@pytest.mark.parametrize("sampler", [DDIM(steps=200), ODE(tolerance=1e-6)])
def test_inversion_undoes_sampling(sampler: Sampler, schedule: str) -> None:
    process = _process("v", schedule)
    denoiser = mixture.exact_denoiser(process, process.schedule)
    u = torch.linspace(0.05, 0.95, 19, dtype=torch.float64).unsqueeze(1)
    noise = SampleNoise(0, range(len(u)))
    x0 = mixture.quantile(process.schedule.level(torch.tensor(0.01)), u)
    rising = torch.linspace(0.01, 0.9, 200, dtype=torch.float64)
    up = sampler(denoiser, x0, rising, process.schedule, noise)
    want = mixture.quantile(process.schedule.level(rising[-1]), u)
    assert float((up - want).abs().mean()) < 0.02
    down = sampler(denoiser, up, rising.flip(0), process.schedule, noise)
    assert float((down - x0).abs().max()) < 0.05
