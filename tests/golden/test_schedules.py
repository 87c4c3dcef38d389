"""Schedules, step lists and time embeddings against tensors of the published modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ldmlab.core.errors import UserError
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import RectifiedFlow, TableSchedule, cosine, scaled_linear
from ldmlab.diffusion.transition import transition
from ldmlab.nn.embeddings import sinusoidal_embedding

DATA = Path(__file__).parent / "data"

# File, schedule, and the stride of its table's entries in the file.
SCHEDULES = [
    ("sched_linear_0015_0195", scaled_linear(), 1),
    ("sched_linear_0015_0155", scaled_linear(beta_end=0.0155), 37),
    ("sched_linear_0015_0205", scaled_linear(beta_end=0.0205), 37),
    ("sched_linear_00085_012", scaled_linear(beta_start=0.00085, beta_end=0.012), 37),
    ("sched_linear_default", scaled_linear(beta_start=1e-4, beta_end=0.02), 37),
    ("sched_cosine", cosine(), 1),
]


@pytest.mark.parametrize(("name", "schedule", "stride"), SCHEDULES)
def test_schedules_match_published_buffers(name: str, schedule: TableSchedule, stride: int) -> None:
    want = {
        key[4:]: value.double() for key, value in load_file(DATA / f"{name}.safetensors").items()
    }
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    step = transition(schedule, t, (t - 1 / 1000).round(decimals=9))
    got = {
        "betas": step.variance,
        "alphas_cumprod": step.start.alpha.square(),
        "alphas_cumprod_prev": step.end.alpha.square(),
        "sqrt_alphas_cumprod": step.start.alpha,
        "sqrt_one_minus_alphas_cumprod": step.start.sigma,
        "log_one_minus_alphas_cumprod": step.start.sigma.square().log(),
        "sqrt_recip_alphas_cumprod": 1 / step.start.alpha,
        "sqrt_recipm1_alphas_cumprod": step.start.sigma / step.start.alpha,
        "posterior_variance": step.posterior_variance,
        "posterior_mean_coef1": step.signal,
        "posterior_mean_coef2": step.keep,
    }
    for key, value in got.items():
        # float32 buffers: 1 - alpha_bar has lost digits where alpha_bar is near 1.
        torch.testing.assert_close(value[::stride], want[key], rtol=1e-4, atol=3e-6, msg=key)
    torch.testing.assert_close(
        step.variance[:: stride if "betas_float64" in want else 1][: len(want["betas"])],
        want.get("betas_float64", want["betas"])[: len(want["betas"])],
        rtol=2e-6,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("steps", "count"), [(10, 1000), (50, 1000), (200, 1000), (30, 1000), (20, 100)]
)
def test_timesteps_match_published_lists(steps: int, count: int) -> None:
    want = load_file(DATA / "ddim_timesteps.safetensors")[f"out.steps_{steps}_of_{count}"]
    times = DDIM(steps=steps, spacing="leading_plus_one", final="first_entry").timesteps(
        scaled_linear(num_steps=count)
    )
    entries = (times[:-1] * count - 1).round().long().flip(0)
    assert entries.tolist() == want.tolist()
    assert float(times[-1]) == 1 / count


def test_time_embeddings_match_published_values() -> None:
    case = load_file(DATA / "timestep_embedding.safetensors")
    for dim in (32, 224):
        got = sinusoidal_embedding(case["in.t"].float(), dim)
        torch.testing.assert_close(got, case[f"out.emb_{dim}"], rtol=1e-4, atol=3e-6)


def test_timesteps_beyond_the_table_are_refused() -> None:
    sampler = DDIM(steps=300, spacing="leading_plus_one")
    with pytest.raises(UserError, match="another number of steps"):
        sampler.timesteps(scaled_linear())
    with pytest.raises(UserError, match="trailing or linspace"):
        DDIM(spacing="leading").timesteps(RectifiedFlow())
