"""The noise level: how much signal and how much noise a noised sample holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.core.tensors import combine


@dataclass(frozen=True)
class NoiseLevel:
    """Signal and noise factors of x = alpha x0 + sigma eps, in float64.

    Attributes:
        alpha: Factor of the clean signal, in [0, 1].
        sigma: Standard deviation of the noise.
    """

    alpha: Float[Tensor, " *b"]
    sigma: Float[Tensor, " *b"]

    @property
    def log_snr(self) -> Float[Tensor, " *b"]:
        """log(alpha² / sigma²): +inf where there is no noise, -inf where there is no signal."""
        return 2 * (torch.log(self.alpha) - torch.log(self.sigma))

    @property
    def scale(self) -> Float[Tensor, " *b"]:
        """Standard deviation of x for data of unit variance; 1 where variance is preserved."""
        return torch.hypot(self.alpha, self.sigma)

    def with_some_signal(self) -> NoiseLevel:
        """The level with alpha of at least 1e-9.

        Errors in eps relate to errors in x0 by a factor that is infinite where no signal is
        left; weights that are ratios of such factors have a finite limit there, and this is it
        to the last bit of a float.
        """
        return NoiseLevel(self.alpha.clamp(min=1e-9), self.sigma)

    def given_x0(self, x: Float[Tensor, " b *shape"], x0: Float[Tensor, " b *shape"]) -> Prediction:
        """The prediction with this clean signal that explains `x`; needs some noise."""
        return Prediction(x0=x0, eps=combine(1 / self.sigma, x, -self.alpha / self.sigma, x0))

    def given_eps(
        self, x: Float[Tensor, " b *shape"], eps: Float[Tensor, " b *shape"]
    ) -> Prediction:
        """The prediction with this noise that explains `x`; needs some signal."""
        return Prediction(x0=combine(1 / self.alpha, x, -self.sigma / self.alpha, eps), eps=eps)
