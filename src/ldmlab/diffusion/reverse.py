"""Gaussians of the reverse chain: its variances and how far it is from the posterior."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.records import Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.schedule import Schedule
from ldmlab.diffusion.transition import Transition, transition

Place = float | Float[Tensor, " b *shape"]
Variance = Literal["beta", "beta_tilde", "learned"]


def variance_fraction(variance: Variance, prediction: Prediction) -> Place:
    """Where between log beta_tilde (0) and log beta (1) a reverse variance lies.

    Raises:
        UserError: `learned` is asked of a model without learned variances.
    """
    if variance != "learned":
        return 1.0 if variance == "beta" else 0.0
    if prediction.variance_fraction is None:
        raise UserError("variance=learned needs parameterization=learned_variance")
    return prediction.variance_fraction


def chain_step(schedule: Schedule, t: Float[Tensor, " *b"], num_steps: int) -> Transition:
    """The step of a chain of `num_steps` steps that ends at `t`."""
    before = t - 1 / num_steps
    # The first step starts at the data exactly, whatever rounding leaves of t.
    return transition(schedule, t, torch.where(before > 1e-9, before, 0.0))


def log_variance(
    step: Transition, schedule: Schedule, num_steps: int, place: Place, like: Tensor
) -> Tensor:
    """Log variance of p(x_s | x_t) on a chain of `num_steps` steps.

    Args:
        step: The steps, as `chain_step` gives them.
        schedule: Noise level as a function of time.
        num_steps: Length of the chain.
        place: Where between log beta_tilde (0) and log beta (1) it lies.
        like: A batch of samples, for shape and dtype.

    Returns:
        The logarithms, shaped to multiply `like`. The posterior of the first step has no
        variance: that of the second stands in for it (Ho et al. 2020, as published).
    """
    second = chain_step(schedule, torch.full_like(step.variance, 2 / num_steps), num_steps)
    smallest = torch.where(
        step.posterior_variance > 0, step.posterior_variance, second.posterior_variance
    )
    small, large = (broadcast_like(v.log(), like) for v in (smallest, step.variance))
    return place * large + (1 - place) * small


def posterior_kl(
    step: Transition,
    x0: Float[Tensor, " b *shape"],
    estimate: Float[Tensor, " b *shape"],
    log_variance: Tensor,
) -> Float[Tensor, " b *shape"]:
    """KL(q(x_s | x_t, x0) ‖ N(mean with the estimate of x0, variance)) of each value, in nats.

    The means differ by signal (x0 - estimate) (Ho et al. 2020, equation 8).
    """
    log_posterior = broadcast_like(step.posterior_variance.log(), x0)
    difference = broadcast_like(step.signal, x0) * (x0 - estimate)
    ratio = log_posterior - log_variance
    return 0.5 * (ratio.exp() - 1 - ratio + difference.square() * torch.exp(-log_variance))


def gaussian_nll(
    x: Float[Tensor, " b *shape"], mean: Float[Tensor, " b *shape"], log_variance: Tensor
) -> Float[Tensor, " b *shape"]:
    """-log N(x; mean, variance) of each value, in nats."""
    return 0.5 * (
        math.log(2 * math.pi) + log_variance + (x - mean).square() * torch.exp(-log_variance)
    )


def discretised_nll(
    x: Float[Tensor, " b *shape"], mean: Float[Tensor, " b *shape"], log_variance: Tensor
) -> Float[Tensor, " b *shape"]:
    """-log probability of each byte, in nats (Ho et al. 2020, equation 13).

    Args:
        x: Pixels k / 127.5 - 1 with whole k; the normal law is integrated over +- 1 / 255
            around each, and to infinity beyond the darkest and the brightest.
        mean: Mean of the law.
        log_variance: Its log variance.
    """
    std = torch.exp(0.5 * log_variance)
    above = torch.special.ndtr((x + 1 / 255 - mean) / std)
    below = torch.special.ndtr((x - 1 / 255 - mean) / std)
    above = torch.where(x > 0.999, 1.0, above)
    below = torch.where(x < -0.999, 0.0, below)
    return -(above - below).clamp(min=1e-12).log()
