"""Time of a DDIM step beyond the network, ours against diffusers', in turns.

The network is a function that returns one tensor made beforehand, so that all that is timed is
noise levels, parameterisation and the step itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Conditioning
from ldmlab.diffusion.parameterization import Eps
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import scaled_linear
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import Unit

STEPS = 50
QUICK = {"rounds": 2}

SCHEDULE = scaled_linear(beta_start=0.00085, beta_end=0.012)
PROCESS = DiffusionProcess(SCHEDULE, Eps(), Unit(), Uniform())
SCHEDULER = DDIMScheduler(
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
    clip_sample=False,
    timestep_spacing="trailing",
)


def ours(x: Tensor, output: Tensor) -> Tensor:
    """A sampling run of ours, list of times and denoiser included."""
    denoiser = PROCESS.denoiser(lambda x, time, conditioning: output, Conditioning())
    sampler = DDIM(steps=STEPS)
    noise = SampleNoise(0, range(len(x)))
    return sampler(denoiser, x, sampler.timesteps(SCHEDULE), SCHEDULE, noise)


def theirs(x: Tensor, output: Tensor) -> Tensor:
    """The loop of a diffusers pipeline, which keeps its scheduler too."""
    SCHEDULER.set_timesteps(STEPS)
    for step in SCHEDULER.timesteps:
        SCHEDULER.scale_model_input(x, step)
        x = SCHEDULER.step(output, step, x).prev_sample
    return x


def _seconds(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, output: Tensor) -> float:
    begin = time.perf_counter()
    run(x, output)
    return time.perf_counter() - begin


@torch.inference_mode()
def run(rounds: int = 40) -> dict[str, Any]:
    """Microseconds a step of both, and the ratio's quartiles, by the shape of the latents."""
    torch.set_num_threads(1)
    return {f"{batch}x4x64x64": _compared(batch, rounds) for batch in (1, 16)}


def _compared(batch: int, rounds: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x, output = (torch.randn(batch, 4, 64, 64, generator=generator) for _ in range(2))
    # Diffusers' tables are float32: the same samples to its rounding.
    torch.testing.assert_close(ours(x, output), theirs(x, output), rtol=1e-3, atol=1e-3)
    mine, other = [], []
    # In turns, so that a busy machine slows both: a ratio of neighbours is what counts.
    for _ in range(rounds):
        mine.append(_seconds(ours, x, output))
        other.append(_seconds(theirs, x, output))
    a, b = (statistics.median(times) / STEPS * 1e6 for times in (mine, other))
    ratios = statistics.quantiles((a / b for a, b in zip(mine, other, strict=True)), n=4)
    return {"ours_us": a, "diffusers_us": b, "ratio_quartiles": ratios}
