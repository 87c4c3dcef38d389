"""Samplers against diffusers' schedulers, step by step with one and the same network.

Both sides get the same start, the same network and the same noise; what is compared is the sample
after every step. Diffusers keeps its tables in float32: they are compared with ours once and then
replaced by ours in float64, so that a disagreement of the formulas has nowhere to hide.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.records import Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.parameterization import Eps, Flow, Parameterization, V
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver
from ldmlab.diffusion.samplers.dpm_solver_sde import DPMSolverSDE
from ldmlab.diffusion.samplers.edm import Euler, Heun
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.diffusion.samplers.unipc import UniPC
from ldmlab.diffusion.schedule import RectifiedFlow, Schedule, TableSchedule, linear, scaled_linear

STEPS = 20
SHAPE = (2, 4, 3, 3)
# Of the largest value. Steps that diffusers takes in float64 throughout:
EXACT = 1e-9
# Steps before which diffusers rounds the sample to float32:
ROUNDED = 1e-5

TABLES: dict[str, tuple[TableSchedule, dict[str, Any]]] = {
    "linear": (linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (
        scaled_linear(beta_start=0.00085, beta_end=0.012),
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
}
PREDICTIONS: dict[str, Parameterization] = {"epsilon": Eps(), "v_prediction": V()}

# Of numpy, about how diffusers reads its own tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

over_tables = pytest.mark.parametrize("table", TABLES)
over_predictions = pytest.mark.parametrize("prediction", PREDICTIONS)


class GeneratorNoise(Noise):
    """Draws as diffusers does, from one generator for the whole batch."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        raise AssertionError("a sampler drew uniform numbers")


def network(x: Tensor, step: Tensor | float) -> Tensor:
    """A fixed non-linear function of the sample and of the integer time step of the table."""
    phase = torch.as_tensor(step, dtype=torch.float64) / 300
    return torch.tanh((0.7 + 0.3 * torch.cos(phase)) * x + 0.2 * torch.sin(3 * phase))


def denoiser(schedule: Schedule, parameterization: Parameterization) -> Denoiser:
    """The network as our samplers see it."""
    offset = 0 if schedule.num_steps is None else 1

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return parameterization.predict(
            network(x, 1000 * t - offset), x, parameterization.preconditioning(t, schedule.level(t))
        )

    return denoise


def start() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def ours(
    sampler: Sampler, schedule: Schedule, parameterization: Parameterization, times: Tensor
) -> list[Tensor]:
    """The sample after every step."""
    seen: list[Tensor] = []
    model, noise = denoiser(schedule, parameterization), GeneratorNoise()
    sampler(model, start(), times, schedule, noise, lambda _, x: seen.append(x))
    return seen


def with_our_table(scheduler: Any, schedule: TableSchedule, steps: int = STEPS) -> Any:
    """The scheduler, set to `steps` and to our table in float64."""
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), schedule.alphas_cumprod, rtol=1e-4, atol=1e-7
    )
    scheduler.alphas_cumprod = schedule.alphas_cumprod
    if hasattr(scheduler, "final_alpha_cumprod") and not scheduler.config.set_alpha_to_one:
        scheduler.final_alpha_cumprod = schedule.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "sigmas"):
        level = schedule.level(times_of(scheduler))
        sigmas = level.sigma / level.alpha
        torch.testing.assert_close(scheduler.sigmas.double(), sigmas, rtol=1e-6, atol=0)
        scheduler.sigmas = sigmas
    return scheduler


def theirs(scheduler: Any, **options: Any) -> list[Tensor]:
    """The sample after every call of `step`, on a scheduler of variance-preserving samples."""
    x, seen = start(), []
    for step in scheduler.timesteps:
        x = scheduler.step(network(x, step), step, x, **options).prev_sample
        seen.append(x)
    return seen


def theirs_exploding(scheduler: Any, schedule: TableSchedule) -> tuple[list[Tensor], Tensor]:
    """The samples of a scheduler of x / alpha, and the network's time steps."""
    x = start() / schedule.level((scheduler.timesteps[0].double() + 1) / 1000).alpha
    seen = []
    for step in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, step), step)
        x = scheduler.step(output, step, x).prev_sample
        seen.append(x)
    return seen, scheduler.timesteps


def times_of(scheduler: Any) -> Tensor:
    """The times of a table scheduler's steps, and 0."""
    steps = scheduler.timesteps.double()
    return torch.cat([(steps + 1) / 1000, torch.zeros(1, dtype=torch.float64)])


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    # Where little signal is left, a network that is no denoiser drives samples far beyond 1, and
    # float32 rounds in proportion.
    for mine, other in zip(ours, theirs, strict=True):
        size = max(1.0, float(mine.abs().max()))
        torch.testing.assert_close(mine, other.double(), rtol=0, atol=tolerance * size)


@over_tables
@over_predictions
# Not fixed_large on trailing steps: it adds noise to the data where the last is not entry 0.
@pytest.mark.parametrize(
    ("variance", "spacing"),
    [("fixed_small", "leading"), ("fixed_small", "trailing"), ("fixed_large", "leading")],
)
def test_ddpm_matches_diffusers(table: str, prediction: str, variance: str, spacing: str) -> None:
    schedule, betas = TABLES[table]
    sampler = DDPM(
        steps=STEPS,
        spacing=spacing,  # type: ignore[arg-type]
        variance="beta_tilde" if variance == "fixed_small" else "beta",
    )
    scheduler = DDPMScheduler(
        **betas,
        clip_sample=False,
        variance_type=variance,
        prediction_type=prediction,
        timestep_spacing=spacing,
    )
    scheduler = with_our_table(scheduler, schedule)
    times = sampler.timesteps(schedule)
    torch.testing.assert_close(times, times_of(scheduler))
    # On the last trailing step diffusers adds its least deviation, 1e-10, where ours adds none.
    assert_same(
        ours(sampler, schedule, PREDICTIONS[prediction], times),
        theirs(scheduler, generator=GeneratorNoise().generator),
        EXACT,
    )


@over_tables
@over_predictions
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "leading_plus_one"])
def test_ddim_matches_diffusers(table: str, prediction: str, eta: float, spacing: str) -> None:
    schedule, betas = TABLES[table]
    published = spacing == "leading_plus_one"
    sampler = DDIM(
        steps=STEPS,
        spacing=spacing,  # type: ignore[arg-type]
        final="first_entry" if published else "data",
        eta=eta,
    )
    scheduler = DDIMScheduler(
        **betas,
        clip_sample=False,
        set_alpha_to_one=not published,
        steps_offset=int(published),
        prediction_type=prediction,
        timestep_spacing="leading" if published else spacing,
    )
    scheduler = with_our_table(scheduler, schedule)
    times = sampler.timesteps(schedule)
    torch.testing.assert_close(times[:-1], times_of(scheduler)[:-1])
    assert_same(
        ours(sampler, schedule, PREDICTIONS[prediction], times),
        theirs(scheduler, eta=eta, generator=GeneratorNoise().generator),
        EXACT,
    )


@over_tables
@over_predictions
@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_dpm_solver_matches_diffusers(
    table: str, prediction: str, spacing: str, algorithm: str
) -> None:
    schedule, betas = TABLES[table]
    scheduler = DPMSolverMultistepScheduler(
        **betas,
        algorithm_type=algorithm,
        solver_type="midpoint",
        solver_order=2,
        prediction_type=prediction,
        timestep_spacing=spacing,
    )
    scheduler = with_our_table(scheduler, schedule)
    sampler = DPMSolver() if algorithm == "dpmsolver++" else DPMSolverSDE()
    # Diffusers would draw its noise in float32, other numbers from the same seed.
    noise = GeneratorNoise()
    x, seen = start(), []
    for step in scheduler.timesteps:
        drawn = noise.normal(x)
        x = scheduler.step(network(x, step), step, x, variance_noise=drawn).prev_sample
        seen.append(x)
    # Its linspace and leading lists differ from ours: it leaves out the last of steps + 1.
    times = times_of(scheduler)
    assert_same(ours(sampler, schedule, PREDICTIONS[prediction], times), seen, ROUNDED)


@over_tables
@over_predictions
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_unipc_matches_diffusers(table: str, prediction: str, spacing: str) -> None:
    schedule, betas = TABLES[table]
    scheduler = UniPCMultistepScheduler(
        **betas,
        solver_type="bh2",
        solver_order=2,
        prediction_type=prediction,
        timestep_spacing=spacing,
    )
    scheduler = with_our_table(scheduler, schedule)
    times = times_of(scheduler)
    assert_same(ours(UniPC(), schedule, PREDICTIONS[prediction], times), theirs(scheduler), EXACT)


@over_tables
@over_predictions
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("method", ["euler", "heun"])
def test_edm_matches_diffusers(table: str, prediction: str, spacing: str, method: str) -> None:
    """Without churn, which diffusers applies after the network was asked and ours before."""
    schedule, betas = TABLES[table]
    kind = EulerDiscreteScheduler if method == "euler" else HeunDiscreteScheduler
    scheduler = kind(**betas, prediction_type=prediction, timestep_spacing=spacing)
    scheduler = with_our_table(scheduler, schedule)
    # Both lists of steps hold whole numbers only, for which sigmas are not interpolated.
    sampler: Sampler = (Euler if method == "euler" else Heun)(
        steps=STEPS,
        spacing=spacing,  # type: ignore[arg-type]
    )
    times = sampler.timesteps(schedule)
    seen, steps = theirs_exploding(scheduler, schedule)
    if method == "heun":
        # Every step but the last is two calls, of which the second ends it.
        seen, steps = [*seen[1:-1:2], seen[-1]], torch.cat([steps[:1], steps[1::2]])
    torch.testing.assert_close(times[:-1], (steps.double() + 1) / 1000)
    tolerance = ROUNDED if method == "euler" else EXACT
    ends = schedule.level(times[1:]).alpha
    seen = [broadcast_like(alpha, x) * x for alpha, x in zip(ends, seen, strict=True)]
    assert_same(ours(sampler, schedule, PREDICTIONS[prediction], times), seen, tolerance)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_on_rectified_flow_matches_diffusers(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / STEPS, STEPS).tolist())
    times = scheduler.sigmas.double()
    schedule = RectifiedFlow()
    sampler = Euler(steps=STEPS)
    if shift == 1:
        torch.testing.assert_close(sampler.timesteps(schedule), times, rtol=0, atol=1e-6)
    assert_same(ours(sampler, schedule, Flow(), times), theirs(scheduler), ROUNDED)


def test_unipc_on_rectified_flow_matches_diffusers() -> None:
    scheduler = UniPCMultistepScheduler(
        solver_type="bh2", use_flow_sigmas=True, prediction_type="flow_prediction"
    )
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(0)
    # From below 1, which diffusers moves by 1e-6 to keep its logarithms finite.
    noisy = torch.linspace(0.95, 0.05, STEPS, dtype=torch.float64)
    times = scheduler.sigmas = torch.cat([noisy, torch.zeros(1, dtype=torch.float64)])
    x, seen = start(), []
    for step, t in zip(scheduler.timesteps, times, strict=False):
        # The list of steps is rounded to whole numbers here; the network sees the time itself.
        x = scheduler.step(network(x, 1000 * t), step, x).prev_sample
        seen.append(x)
    assert_same(ours(UniPC(), RectifiedFlow(), Flow(), times), seen, EXACT)
