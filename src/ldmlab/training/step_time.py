"""How long a step of a stage takes on this machine, before it is trained."""

from __future__ import annotations

import statistics
import time

import torch

from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.training.step_module import StepModule

_STEPS = 3
# A first step makes what the others find made.
_WARM_UP = 1


def seconds_a_step(module: StepModule, batch: Batch, device: torch.device) -> float:
    """Seconds of a forward and a backward pass, the median of three; no weight changes.

    Args:
        module: A stage, not yet trained.
        batch: As many images or latents as a step takes.
        device: Where it is to be trained.
    """
    module.to(device)
    batch = batch.to(device)
    noise = SampleNoise(0, list(range(len(batch))))
    parameters = [p for p in module.parameters() if p.requires_grad]
    taken = []
    for _ in range(_WARM_UP + _STEPS):
        began = time.monotonic()
        module.terms(batch, noise).total.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.monotonic() - began)
        for parameter in parameters:
            parameter.grad = None
    return statistics.median(taken[_WARM_UP:])
