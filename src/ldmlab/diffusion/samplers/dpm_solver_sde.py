"""DPM-Solver++ for the reverse SDE, of second order."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldmlab.diffusion.level import NoiseLevel
from ldmlab.diffusion.samplers.dpm_solver import DPMSolver


@dataclass(frozen=True)
class DPMSolverSDE(DPMSolver):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, section 5).

    The first step is of first order, and so is one that ends at the data.

    With lambda = log(alpha / sigma) and h its rise over a step,
    x_s = sigma_s / sigma_t exp(-h) x + alpha_s (1 - exp(-2h)) D + sigma_s sqrt(1 - exp(-2h)) z,
    where D extrapolates the last two x0.
    """

    steps: int = 25

    def _factors(self, level: NoiseLevel) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, of the extrapolated x0 and of the noise, for each step between the levels."""
        a_t, a_s = level.alpha[:-1], level.alpha[1:]
        s_t, s_s = level.sigma[:-1], level.sigma[1:]
        # exp(-h) as a ratio stays finite where a level has no signal or no noise.
        decay = s_s * a_t / (a_s * s_t)
        rest = 1 - decay.square()
        return s_s / s_t * decay, a_s * rest, s_s * rest.clamp(min=0).sqrt()
