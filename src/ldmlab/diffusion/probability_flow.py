"""The probability-flow ODE: the deterministic path between data and noise, and its likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.schedule import Schedule

Trace = Literal["hutchinson", "exact"]


class ProbabilityFlow:
    """dy / dphi = cos(phi) eps - sin(phi) x0 for y = x / scale, with tan(phi) = sigma / alpha.

    In the angle phi in [0, pi / 2] the path of every schedule, variance-preserving or exploding
    or straight, is this one bounded equation (Song et al. 2021, equation 13, rewritten).

    Args:
        denoiser: The model.
        schedule: Noise level as a function of time.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        self.denoiser = denoiser
        self.schedule = schedule

    def angle(self, t: float) -> float:
        """phi at a time."""
        level = self.schedule.level(torch.tensor(t, dtype=torch.float64))
        return math.atan2(float(level.sigma), float(level.alpha))

    def scale(self, t: float) -> float:
        """x / y at a time."""
        return float(self.schedule.level(torch.tensor(t, dtype=torch.float64)).scale)

    def velocity(self, y: Float[Tensor, " b *shape"], phi: float) -> Float[Tensor, " b *shape"]:
        """dy / dphi."""
        log_snr = torch.tensor(-2 * math.log(math.tan(phi)), dtype=torch.float64)
        t = self.schedule.time(log_snr)
        prediction = self.denoiser(float(self.schedule.level(t).scale) * y, t)
        return math.cos(phi) * prediction.eps - math.sin(phi) * prediction.x0

    def divergence(
        self, y: Float[Tensor, " b *shape"], phi: float, probe: Float[Tensor, " b *shape"] | None
    ) -> tuple[Float[Tensor, " b *shape"], Float[Tensor, " b"]]:
        """The velocity and the trace of its Jacobian: along a probe, or exact without one."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            velocity = self.velocity(y, phi)
            if probe is not None:
                (product,) = torch.autograd.grad(velocity, y, probe)
                return velocity.detach(), (product * probe).flatten(1).sum(1)
            flat = velocity.flatten(1)
            trace = torch.zeros(len(y), dtype=y.dtype, device=y.device)
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)
                trace = trace + row.flatten(1)[:, i]
            return velocity.detach(), trace


def integrate(
    derivative: Callable[[float, Tensor], Tensor],
    state: Float[Tensor, " n"],
    start: float,
    end: float,
    tolerance: float,
    method: str = "RK45",
) -> Float[Tensor, " n"]:
    """Carry a flat state with an adaptive solver of scipy, in float64.

    Raises:
        RuntimeError: The solver gave up.
    """
    from scipy.integrate import solve_ivp  # seconds to import, and not needed to train

    def call(at: float, values: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(values).to(state.device, state.dtype)
        return derivative(at, tensor).double().cpu().numpy()

    solution = solve_ivp(
        call,
        (start, end),
        state.double().cpu().numpy(),
        method=method,
        rtol=tolerance,
        atol=tolerance,
    )
    if not solution.success:
        raise RuntimeError(f"the ODE solver stopped: {solution.message}")
    return torch.from_numpy(solution.y[:, -1]).to(state.device, state.dtype)


def log_likelihood(
    denoiser: Denoiser,
    x0: Float[Tensor, " b *shape"],
    schedule: Schedule,
    noise: Noise,
    trace: Trace = "hutchinson",
    tolerance: float = 1e-5,
) -> Float[Tensor, " b"]:
    """log p(x0) in nats by the instantaneous change of variables (Song et al. 2021, equation 39).

    The path starts at the schedule's `first_time`, so the density is that of the data with the
    noise of this level, sigma / alpha, added; on a schedule that begins with little noise the
    difference is small.

    Args:
        denoiser: The model.
        x0: Data, continuous.
        schedule: Noise level as a function of time.
        noise: Source of the probe of the Hutchinson estimate.
        trace: `exact` costs a backward pass for each value of a sample, `hutchinson` one.
        tolerance: Relative and absolute, of the adaptive solver.
    """
    flow = ProbabilityFlow(denoiser, schedule)
    probe = None
    if trace == "hutchinson":
        probe = torch.where(noise.uniform(x0) < 0.5, -1.0, 1.0).to(x0.dtype)
    first = schedule.first_time
    level = schedule.level(torch.tensor(first, dtype=torch.float64))
    count, values = len(x0), x0[0].numel()
    # What the data is multiplied by on the way to y.
    shrink = float(level.alpha / level.scale)

    def derivative(phi: float, state: Tensor) -> Tensor:
        y = state[: count * values].reshape(x0.shape)
        velocity, divergence = flow.divergence(y, phi, probe)
        return torch.cat([velocity.flatten(), divergence])

    start = torch.cat([(shrink * x0).flatten(), x0.new_zeros(count)])
    end = integrate(derivative, start, flow.angle(first), flow.angle(1.0), tolerance)
    y, gained = end[: count * values].reshape(count, values), end[count * values :]
    base = -0.5 * (y.square() + math.log(2 * math.pi)).sum(1)
    return base + gained + values * math.log(shrink)
