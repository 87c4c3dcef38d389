"""The noise level: how much signal and how much noise a noised sample holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class NoiseLevel:
    """Signal and noise factors of x = alpha x0 + sigma eps, in float64.

    Attributes:
        alpha: Factor of the clean signal, in [0, 1] for a variance-preserving schedule.
        sigma: Standard deviation of the noise.
    """

    alpha: Float[Tensor, "*b"]
    sigma: Float[Tensor, "*b"]

    @property
    def log_snr(self) -> Float[Tensor, "*b"]:
        """log(alpha² / sigma²): +inf where there is no noise, -inf where there is no signal."""
        return 2 * (torch.log(self.alpha) - torch.log(self.sigma))
