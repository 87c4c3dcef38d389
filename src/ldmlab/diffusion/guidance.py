"""Guidance: maps from a conditional and an unconditional denoiser to the one that is sampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import above, finite, probability
from ldmlab.core.records import Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.schedule import Schedule


def _guided(wanted: Prediction, x0: Tensor, eps: Tensor) -> Prediction:
    """The answer under the wanted condition, guided: its learned variance stays as it is.

    As in the published models of Nichol et al. (2022, GLIDE) and of Peebles & Xie (2023, DiT).
    """
    return replace(wanted, x0=x0, eps=eps)


class Guidance(ABC):
    """A way to strengthen the condition at sampling time."""

    @abstractmethod
    def __call__(
        self, conditional: Denoiser, unconditional: Denoiser, schedule: Schedule
    ) -> Denoiser:
        """The guided denoiser.

        Args:
            conditional: The model under the wanted condition.
            unconditional: What to move away from: the model without a condition, or a worse
                model under the same one (autoguidance, Karras et al. 2024).
            schedule: Noise level as a function of time.
        """


class NoGuidance(Guidance):
    """The conditional model as it was trained."""

    def __call__(
        self, conditional: Denoiser, unconditional: Denoiser, schedule: Schedule
    ) -> Denoiser:
        """The conditional denoiser itself."""
        return conditional


class ClassifierFree(Guidance):
    """eps = eps_null + scale (eps_condition - eps_null) (Ho & Salimans 2022).

    Args:
        scale: 0 ignores the condition, 1 is the model as trained, above 1 exaggerates.
    """

    def __init__(self, scale: float = 2.0) -> None:
        finite(scale=scale)
        self.scale = scale

    def __call__(
        self, conditional: Denoiser, unconditional: Denoiser, schedule: Schedule
    ) -> Denoiser:
        """The two denoisers, combined linearly."""
        if self.scale == 1:
            return conditional
        return compose([conditional], unconditional, [self.scale])


class Rescaled(Guidance):
    """Classifier-free guidance without its over-exposure (Lin et al. 2024, equation 16).

    The guided x0 is brought to the standard deviation of the conditional one, sample by sample.

    Args:
        scale: As in `ClassifierFree`.
        rescale: Share of the rescaled x0; 0 is `ClassifierFree`.
    """

    def __init__(self, scale: float = 7.5, rescale: float = 0.7) -> None:
        finite(scale=scale)
        probability(rescale=rescale)
        self.scale = scale
        self.rescale = rescale

    def __call__(
        self, conditional: Denoiser, unconditional: Denoiser, schedule: Schedule
    ) -> Denoiser:
        """The guided and rescaled denoiser."""

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            wanted, null = conditional(x, t), unconditional(x, t)
            x0 = null.x0.lerp(wanted.x0, self.scale)
            factor = wanted.x0.flatten(1).std(1) / x0.flatten(1).std(1).clamp(min=1e-12)
            factor = self.rescale * factor + (1 - self.rescale)
            guided = schedule.level(t).given_x0(x, broadcast_like(factor, x) * x0)
            return _guided(wanted, guided.x0, guided.eps)

        return denoise


class Interval(Guidance):
    """Guides at middle times only (Kynkäänniemi et al. 2024).

    Args:
        guidance: The guidance inside the interval; outside the model is as trained.
        low: Smallest guided time.
        high: Largest guided time.
    """

    def __init__(self, guidance: Guidance, low: float = 0.2, high: float = 0.8) -> None:
        probability(low=low, high=high)
        above(low, "low")(high=high)
        self.guidance = guidance
        self.low = low
        self.high = high

    def __call__(
        self, conditional: Denoiser, unconditional: Denoiser, schedule: Schedule
    ) -> Denoiser:
        """The guided denoiser inside the interval, the conditional one outside."""
        guided = self.guidance(conditional, unconditional, schedule)

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            inside = (t >= self.low) & (t <= self.high)
            if not inside.any():
                return conditional(x, t)
            if inside.all():
                return guided(x, t)
            where = inside.to(x.device).reshape(-1, *[1] * (x.ndim - 1))
            strong, plain = guided(x, t), conditional(x, t)
            x0 = torch.where(where, strong.x0, plain.x0)
            return _guided(plain, x0, torch.where(where, strong.eps, plain.eps))

        return denoise


class ClassifierGuidance(Guidance):
    """eps = eps - scale sigma grad log p(y | x_t) (Dhariwal & Nichol 2021, algorithm 2).

    Args:
        log_prob: Log probability of the wanted class for noised samples and their time.
        scale: Strength; 1 samples the posterior.
    """

    def __init__(
        self,
        log_prob: Callable[[Float[Tensor, " b *shape"], Tensor], Float[Tensor, " b"]],
        scale: float = 1.0,
    ) -> None:
        finite(scale=scale)
        self.log_prob = log_prob
        self.scale = scale

    def __call__(
        self, conditional: Denoiser, unconditional: Denoiser, schedule: Schedule
    ) -> Denoiser:
        """The conditional denoiser, its noise shifted along the classifier's gradient."""

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            with torch.enable_grad():
                noised = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self.log_prob(noised, t).sum(), noised)
            level = schedule.level(t)
            wanted = conditional(x, t)
            shift = self.scale * broadcast_like(level.sigma, x) * gradient
            guided = level.given_eps(x, wanted.eps - shift)
            return _guided(wanted, guided.x0, guided.eps)

        return denoise


def compose(
    conditionals: Sequence[Denoiser], unconditional: Denoiser, scales: Sequence[float]
) -> Denoiser:
    """Several conditions at once: eps_null + sum of scale_i (eps_i - eps_null) (Liu et al. 2022).

    Args:
        conditionals: The model under each condition, at least one; a learned variance is that of
            the first.
        unconditional: The model without one.
        scales: Strength of each condition; below 0 avoids it.

    Raises:
        ValueError: The numbers of conditions and of scales differ.
    """
    if len(conditionals) != len(scales):
        raise ValueError(f"{len(conditionals)} conditions need as many scales, not {len(scales)}")

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        null = unconditional(x, t)
        wanted = [denoiser(x, t) for denoiser in conditionals]
        x0, eps = null.x0, null.eps
        for answer, scale in zip(wanted, scales, strict=True):
            x0 = x0 + scale * (answer.x0 - null.x0)
            eps = eps + scale * (answer.eps - null.eps)
        return _guided(wanted[0], x0, eps)

    return denoise
