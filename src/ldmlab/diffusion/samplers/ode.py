"""Sampling by the probability-flow ODE with an adaptive solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.ranges import one_of, positive
from ldmlab.diffusion.probability_flow import ProbabilityFlow, integrate
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.sampler import OnStep, Sampler
from ldmlab.diffusion.schedule import Schedule

Method = Literal["RK23", "RK45", "DOP853"]


@dataclass(frozen=True)
class ODE(Sampler):
    """Follows the probability-flow ODE to a tolerance; the solver chooses its own steps.

    Works in both directions. The error of a batch is controlled as a whole, so a sample agrees
    across batch sizes to the tolerance, not bit for bit. `on_step` is called once, at the end.

    Args:
        tolerance: Relative and absolute.
        method: Of `scipy.integrate.solve_ivp`.
    """

    steps: int = 1
    tolerance: float = 1e-4
    method: Method = "RK45"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(tolerance=self.tolerance)
        one_of(Method)(method=self.method)

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
        flow = ProbabilityFlow(denoiser, schedule)
        # At t = 0 the path stops where the model's noise levels begin.
        start, end = (max(float(t), schedule.first_time) for t in (timesteps[0], timesteps[-1]))

        def derivative(phi: float, state: Tensor) -> Tensor:
            return flow.velocity(state.reshape(x.shape), phi).flatten()

        y = integrate(
            derivative,
            (x / flow.scale(start)).flatten(),
            flow.angle(start),
            flow.angle(end),
            self.tolerance,
            self.method,
        )
        x = flow.scale(end) * y.reshape(x.shape)
        if float(timesteps[-1]) == 0:
            x = denoiser(x, timesteps[-1].new_tensor(end)).x0
        if on_step is not None:
            on_step(len(timesteps) - 1, x)
        return x
