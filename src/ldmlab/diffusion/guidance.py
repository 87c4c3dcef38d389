"""Guidance: maps from a conditional and an unconditional denoiser to the one that is sampled."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.process import Denoiser


class Guidance(ABC):
    """A way to strengthen the condition at sampling time."""

    @abstractmethod
    def __call__(self, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
        """The guided denoiser."""


class NoGuidance(Guidance):
    """The conditional model as it was trained."""

    def __call__(self, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
        """The conditional denoiser itself."""
        return conditional


class ClassifierFree(Guidance):
    """eps = eps_null + scale (eps_condition - eps_null) (Ho & Salimans 2022).

    Args:
        scale: 0 ignores the condition, 1 is the model as trained, above 1 exaggerates.
    """

    def __init__(self, scale: float = 2.0) -> None:
        self.scale = scale

    def __call__(self, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
        """The two denoisers, combined linearly."""
        if self.scale == 1:
            return conditional

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            null, wanted = unconditional(x, t), conditional(x, t)
            return Prediction(
                x0=null.x0.lerp(wanted.x0, self.scale), eps=null.eps.lerp(wanted.eps, self.scale)
            )

        return denoise
