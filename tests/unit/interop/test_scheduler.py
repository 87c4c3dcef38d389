"""What a DDIMScheduler is told, against the scheduler itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from ldmlab.diffusion.parameterization import X0, Eps, Parameterization, V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import scaled_linear
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import Unit
from ldmlab.interop.diffusers.scheduler import sampler_leaf, scheduler_config

SCHEDULE = scaled_linear()


def _scheduler(kind: Parameterization, sampler: DDIM) -> Any:
    process = DiffusionProcess(SCHEDULE, kind, Unit(), Uniform())
    scheduler = DDIMScheduler(**scheduler_config(process, sampler))
    scheduler.set_timesteps(sampler.steps)
    return scheduler


@pytest.mark.parametrize(
    ("spacing", "final"),
    [
        *((name, "data") for name in ("trailing", "leading", "leading_plus_one", "linspace")),
        # The others have the first entry among their steps, and end there a step earlier.
        *((name, "first_entry") for name in ("trailing", "leading_plus_one")),
    ],
)
def test_exported_scheduler_steps_where_ours_does(spacing: Any, final: Any) -> None:
    sampler = DDIM(10, spacing, final)
    scheduler = _scheduler(Eps(), sampler)
    times = sampler.timesteps(SCHEDULE)
    # Entry k of a table of a thousand ends at time (k + 1) / 1000.
    entries = (times[:-1] * 1000 - 1).round().long()
    assert scheduler.timesteps.tolist() == entries.tolist()
    end = float(SCHEDULE.level(times[-1]).alpha) ** 2
    assert float(scheduler.final_alpha_cumprod) == pytest.approx(end, rel=1e-5)
    back = sampler_leaf(dict(scheduler.config))
    assert (back["spacing"], back["final"]) == (spacing, final)


@pytest.mark.parametrize("kind", [Eps(), V(), X0()])
def test_exported_scheduler_reads_the_output_as_ours(kind: Parameterization) -> None:
    sampler = DDIM(10)
    scheduler = _scheduler(kind, sampler)
    x, output = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    now = sampler.timesteps(SCHEDULE)[5]
    level = SCHEDULE.level(now)
    alpha, sigma = float(level.alpha), float(level.sigma)
    x0 = {
        Eps: (x - sigma * output) / alpha,
        V: alpha * x - sigma * output,
        X0: output,
    }[type(kind)]
    found = scheduler.step(output, scheduler.timesteps[5], x).pred_original_sample
    torch.testing.assert_close(found, x0, rtol=1e-4, atol=1e-4)
