"""Learned variances of the reverse chain, between the two fixed ones."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import non_negative
from ldmlab.core.records import Prediction
from ldmlab.diffusion.parameterization import Eps, Preconditioning
from ldmlab.diffusion.reverse import chain_step, gaussian_nll, log_variance, posterior_kl
from ldmlab.diffusion.schedule import Schedule


class LearnedVariance(Eps):
    """The network predicts eps and, in a second half of its channels, the variance's place v.

    log variance = v log beta + (1 - v) log beta_tilde (Nichol & Dhariwal 2021, equation 15). The
    variational bound is added to the loss, with a weight that leaves eps alone (L_hybrid,
    equation 16).

    Args:
        vlb_weight: Weight of the bound, in nats a value summed over the chain.
    """

    outputs = 2

    def __init__(self, vlb_weight: float = 0.001) -> None:
        super().__init__()
        non_negative(vlb_weight=vlb_weight)
        self.vlb_weight = vlb_weight

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule without steps too: its reverse variances are undefined."""
        super().check(schedule)
        if schedule.num_steps is None:
            raise ValueError(
                f"a learned variance needs a chain of steps; {type(schedule).__name__} is a "
                f"formula: use linear, scaled_linear, cosine or sigmoid"
            )

    def predict(
        self,
        output: Float[Tensor, " b *both"],
        x: Float[Tensor, " b *shape"],
        preconditioning: Preconditioning,
    ) -> Prediction:
        """x0 and eps from the first half of the channels, v from the second."""
        place = output.chunk(2, dim=1)[1]
        prediction = super().predict(self.answer(output), x, preconditioning)
        # The network's output near 0 means the middle; it is not clipped to [0, 1].
        return replace(prediction, variance_fraction=(place + 1) / 2)

    def answer(self, output: Float[Tensor, " b *both"]) -> Float[Tensor, " b *shape"]:
        """The first half of the channels."""
        return output.chunk(2, dim=1)[0]

    def further_loss(
        self,
        output: Float[Tensor, " b *both"],
        x: Float[Tensor, " b *shape"],
        preconditioning: Preconditioning,
        x0: Float[Tensor, " b *shape"],
        t: Float[Tensor, " b"],
        schedule: Schedule,
    ) -> Float[Tensor, " b"]:
        """The bound, for the variance alone."""
        prediction = self.predict(output, x, preconditioning)
        return self.vlb_weight * variance_bound(schedule, prediction, x, x0, t)


def variance_bound(
    schedule: Schedule,
    prediction: Prediction,
    x: Float[Tensor, " b *shape"],
    x0: Float[Tensor, " b *shape"],
    t: Float[Tensor, " b"],
) -> Float[Tensor, " b"]:
    """T L_{t-1}, a mean over each sample's values in nats, with a gradient for the variance only.

    Raises:
        ValueError: The prediction has no learned variance, or the schedule is no table.
    """
    count = schedule.num_steps
    if prediction.variance_fraction is None or count is None:
        raise ValueError("a learned variance needs a table of steps: a chain such as cosine")
    estimate = prediction.x0.detach()
    step = chain_step(schedule, t, count)
    log_var = log_variance(step, schedule, count, prediction.variance_fraction, x)
    kl = posterior_kl(step, x0, estimate, log_var)
    first = (t * count).round() <= 1
    nll = gaussian_nll(x0, estimate, log_var)
    terms = torch.where(first.reshape(-1, *[1] * (x.ndim - 1)), nll, kl)
    return count * terms.flatten(1).mean(1)
