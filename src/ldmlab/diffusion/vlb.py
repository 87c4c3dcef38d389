"""The variational bound of the reverse chain, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.core.tensors import broadcast_like, combine
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.reverse import (
    Variance,
    chain_step,
    discretised_nll,
    gaussian_nll,
    log_variance,
    posterior_kl,
    variance_fraction,
)
from ldmlab.diffusion.schedule import Schedule

Decoder = Literal["discretised", "continuous"]


@dataclass(frozen=True)
class VariationalBound:
    """L = L_T + sum of L_{t-1} + L_0 of each sample, in nats (Ho et al. 2020, equation 5).

    Attributes:
        prior: L_T, what is left of the sample at the end of the forward chain.
        steps: L_{t-1} for t = 2 … T, or an estimate of their sum split over fewer columns.
        decoder: L_0, a probability for `discretised` pixels, a density for `continuous` data.
        values: Number of values of a sample.
    """

    prior: Float[Tensor, " b"]
    steps: Float[Tensor, "b terms"]
    decoder: Float[Tensor, " b"]
    values: int

    @property
    def total(self) -> Float[Tensor, " b"]:
        """The bound on -log p(x0), in nats."""
        return self.prior + self.steps.sum(1) + self.decoder

    @property
    def bits_per_dim(self) -> Float[Tensor, " b"]:
        """The bound in bits for each value."""
        return self.total / (self.values * math.log(2))


def prior_kl(schedule: Schedule, x0: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
    """L_T = KL(q(x_T | x0) ‖ N(0, scale²)) in nats; the prior is N(0, I) on a Markov chain."""
    end = schedule.level(torch.ones((), dtype=torch.float64))
    ratio = 2 * (end.sigma.log() - end.scale.log())
    mean = broadcast_like(end.alpha / end.scale, x0) * x0
    return 0.5 * (mean.square() + float(ratio.exp() - 1 - ratio)).flatten(1).sum(1)


def variational_bound(
    denoiser: Denoiser,
    x0: Float[Tensor, " b *shape"],
    schedule: Schedule,
    noise: Noise,
    variance: Variance = "beta",
    decoder: Decoder = "continuous",
    decoder_variance: Variance | None = None,
    num_steps: int = 1000,
    terms: int | None = None,
) -> VariationalBound:
    """The bound on -log p(x0) under the reverse chain.

    Args:
        denoiser: The model.
        x0: Data: pixels in [-1, 1] for `discretised`, anything for `continuous`.
        schedule: Noise level as a function of time.
        noise: Source of the noise of each term.
        variance: Of the reverse steps; `learned` takes the model's own.
        decoder: Whether L_0 is a probability of bytes or a density.
        decoder_variance: Of the last step, where beta_tilde is clipped to that of the second;
            the same as `variance` by default.
        num_steps: Length of the chain where the schedule is a formula.
        terms: Number of steps t to evaluate, drawn evenly for each sample; all by default.

    Raises:
        UserError: `learned` is asked of a model without learned variances.
    """
    count = schedule.num_steps or num_steps
    drawn = count - 1 if terms is None else min(terms, count - 1)
    columns = []
    for column in range(drawn):
        if drawn == count - 1:
            entry = torch.full((len(x0),), column + 2, dtype=torch.float64)
        else:
            u = noise.uniform(x0.new_empty(len(x0), dtype=torch.float64)).cpu()
            entry = ((column + u) / drawn * (count - 1)).floor() + 2
        t = entry / count
        step = chain_step(schedule, t, count)
        x = combine(step.start.alpha, x0, step.start.sigma, noise.normal(x0))
        prediction = denoiser(x, t)
        place = variance_fraction(variance, prediction)
        log_var = log_variance(step, schedule, count, place, x0)
        kl = posterior_kl(step, x0, prediction.x0, log_var)
        columns.append(kl.flatten(1).sum(1) * ((count - 1) / drawn))
    t = torch.full((len(x0),), 1 / count, dtype=torch.float64)
    step = chain_step(schedule, t, count)
    x = combine(step.start.alpha, x0, step.start.sigma, noise.normal(x0))
    prediction = denoiser(x, t)
    place = variance_fraction(decoder_variance or variance, prediction)
    nll = discretised_nll if decoder == "discretised" else gaussian_nll
    last = nll(x0, prediction.x0, log_variance(step, schedule, count, place, x0))
    return VariationalBound(
        prior=prior_kl(schedule, x0),
        steps=torch.stack(columns, dim=1),
        decoder=last.flatten(1).sum(1),
        values=x0[0].numel(),
    )
