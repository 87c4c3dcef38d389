"""UniPC: a multistep predictor with a corrector that costs no further call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC of second order with B(h) = exp(h) - 1, on x0 (Zhao et al. 2023).

    Works on every schedule, rectified flow included. The first step is of first order, and so is
    one that ends at the data; each prediction of the network corrects the step that led to it.
    """

    steps: int = 20

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Tensor, " b *shape"],
        timesteps: Float[Tensor, " n"],
        schedule: Schedule,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Carry `x` from timesteps[0] to timesteps[-1]; deterministic, `noise` is not used."""
        level = schedule.level(timesteps)
        half_log_snr = level.log_snr / 2
        h = (half_log_snr[1:] - half_log_snr[:-1]).tolist()
        alpha, sigma = level.alpha, level.sigma
        keep = (sigma[1:] / sigma[:-1]).tolist()
        # alpha (1 - exp(-h)), as ratios that stay finite without signal or noise.
        gain = (alpha[1:] - sigma[1:] * alpha[:-1] / sigma[:-1]).tolist()
        outputs: list[Tensor] = []
        before = x
        for i, time in enumerate(timesteps[:-1]):
            outputs = [*outputs[-2:], denoiser(x, time).x0]
            if i > 0:
                x = keep[i - 1] * before + gain[i - 1] * self._corrected(outputs, h[:i])
            before = x
            x = keep[i] * x + gain[i] * self._predicted(outputs, h[: i + 1])
            if on_step is not None:
                on_step(i + 1, x)
        return x

    @staticmethod
    def _predicted(outputs: list[Tensor], h: list[float]) -> Tensor:
        """Mean x0 over the step to come, from the outputs at its start and one step earlier."""
        current = outputs[-1]
        if len(h) < 2 or not _finite(h[-1], h[-2]):
            return current
        return current + h[-1] / (2 * h[-2]) * (current - outputs[-2])

    @staticmethod
    def _corrected(outputs: list[Tensor], h: list[float]) -> Tensor:
        """Mean x0 over the step just taken, now that the output at its end is known."""
        start, end = outputs[-2], outputs[-1]
        if len(h) < 2 or not _finite(h[-1], h[-2]):
            return (start + end) / 2
        # Two conditions of order for the weights of the earlier and of the later difference.
        step = torch.tensor(h[-1], dtype=torch.float64)
        ratio = -h[-2] / h[-1]
        total = torch.expm1(-step)
        first = total / -step - 1
        second = first / -step - 0.5
        b1, b2 = float(first / total), float(2 * second / total)
        earlier = (b2 - b1) / (ratio - 1)
        later = b1 - earlier
        return start + earlier / ratio * (outputs[-3] - start) + later * (end - start)


def _finite(*values: float) -> bool:
    return all(abs(value) < float("inf") for value in values)
