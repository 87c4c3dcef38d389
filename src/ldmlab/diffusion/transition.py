"""Gaussian transitions between two times of a schedule: forward step and posterior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.diffusion.level import NoiseLevel
from ldmlab.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Transition:
    """The step from a time s to a noisier time t, and its reverse given x0.

    Forward, q(x_t | x_s) = N(ratio x_s, variance); backward,
    q(x_s | x_t, x0) = N(keep x_t + signal x0, posterior_variance) (Ho et al. 2020, equations
    2, 6 and 7). All fields are float64 tensors of one shape.

    Attributes:
        start: Level at the noisier time t.
        end: Level at the cleaner time s.
        ratio: alpha_t / alpha_s; sqrt(alpha_t) of DDPM's per-step notation.
        variance: Variance of the forward step; DDPM's beta_t.
        posterior_variance: DDPM's beta_tilde_t; 0 where s is the data.
        keep: Weight of x_t in the posterior's mean.
        signal: Weight of x0 in the posterior's mean.
    """

    start: NoiseLevel
    end: NoiseLevel
    ratio: Float[Tensor, " *b"]
    variance: Float[Tensor, " *b"]
    posterior_variance: Float[Tensor, " *b"]
    keep: Float[Tensor, " *b"]
    signal: Float[Tensor, " *b"]


def transition(schedule: Schedule, t: Float[Tensor, " *b"], s: Float[Tensor, " *b"]) -> Transition:
    """The step between times `s` and `t` of the same shape, s <= t."""
    start, end = schedule.level(t), schedule.level(s)
    ratio = start.alpha / end.alpha
    variance = (start.sigma.square() - (ratio * end.sigma).square()).clamp(min=0)
    noise = start.sigma.square().clamp(min=torch.finfo(torch.float64).tiny)
    return Transition(
        start=start,
        end=end,
        ratio=ratio,
        variance=variance,
        posterior_variance=variance * end.sigma.square() / noise,
        keep=ratio * end.sigma.square() / noise,
        signal=end.alpha * variance / noise,
    )


def transitions(schedule: Schedule, times: Float[Tensor, " n"]) -> Transition:
    """The n - 1 steps between neighbours of a falling list of times, in its order."""
    return transition(schedule, times[:-1], times[1:])
