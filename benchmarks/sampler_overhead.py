"""Time of a DDIM step beyond the network, ours against diffusers', in turns.

The network is a function that returns one tensor made beforehand, so that all that is timed is
noise levels, parameterisation and the step itself. Needs `uv pip install -e ".[dev]"`.

OMP_NUM_THREADS=1 python benchmarks/sampler_overhead.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

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
ROUNDS = 40


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
def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    print("| latents | ours, us a step | diffusers, us a step | ratio, median (quartiles) |")
    print("|---|---|---|---|")
    for batch in (1, 16):
        generator = torch.Generator().manual_seed(0)
        x, output = (torch.randn(batch, 4, 64, 64, generator=generator) for _ in range(2))
        # Diffusers' tables are float32: the same samples to its rounding.
        torch.testing.assert_close(ours(x, output), theirs(x, output), rtol=1e-3, atol=1e-3)
        mine, other = [], []
        # In turns, so that a busy machine slows both: a ratio of neighbours is what counts.
        for _ in range(ROUNDS):
            mine.append(_seconds(ours, x, output))
            other.append(_seconds(theirs, x, output))
        low, ratio, high = statistics.quantiles(
            (a / b for a, b in zip(mine, other, strict=True)), n=4
        )
        a, b = (statistics.median(times) / STEPS * 1e6 for times in (mine, other))
        print(f"| {batch}x4x64x64 | {a:.0f} | {b:.0f} | {ratio:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
