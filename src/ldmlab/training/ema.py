"""Exponential moving averages of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.core.ranges import between, fraction, non_negative

Decay = Callable[[int], float]
Network = TypeVar("Network", bound=nn.Module)

LONGEST = 0.28
"""No profile t^gamma has a longer deviation, as a share of the training."""


def warmup_decay(decay: float = 0.9999) -> Decay:
    """min(decay, (1 + n) / (10 + n)) at update n: the published average."""
    fraction(decay=decay)
    return lambda n: min(decay, (1 + n) / (10 + n))


def power_decay(gamma: float = 6.94) -> Decay:
    """(1 - 1/n)^(gamma + 1): an average whose memory grows with training (Karras et al. 2024).

    Args:
        gamma: 6.94 and 16.97 remember the last 10 % and 5 % of training.
    """
    non_negative(gamma=gamma)
    return lambda n: (1 - 1 / n) ** (gamma + 1)


def power_lengths(lengths: Sequence[float]) -> list[Decay]:
    """Several averages by their length, from which any other is put together afterwards.

    Args:
        lengths: Standard deviations of the averages' profiles, as shares of the training so far,
            each in (0, 0.28); the first is the one that is shown and evaluated.
    """
    between(0, LONGEST).many(1)(lengths=lengths)
    return [power_decay(gamma_of(length)) for length in lengths]


def gamma_of(length: float) -> float:
    """The exponent of the average whose profile t^gamma has this relative deviation.

    length² = (gamma + 1) / ((gamma + 2)² (gamma + 3)) (Karras et al. 2024, equation 123).

    Raises:
        UserError: The length is not in (0, 0.28).
    """
    if not 0 < length < LONGEST:
        raise UserError(f"the length of an average must lie between 0 and {LONGEST}; got {length}")
    s = length**-2
    # (g + 2)² (g + 3) - s (g + 1) = g³ + 7 g² + (16 - s) g + (12 - s) = 0 has one positive root.
    return float(np.roots([1.0, 7.0, 16.0 - s, 12.0 - s]).real.max())


class EMA(nn.Module, Generic[Network]):
    """Copies of a network that follow its weights slowly.

    Attributes:
        network: The first average.
        others: The further ones.

    Args:
        network: What to follow.
        decays: Share of each average kept at update n = 1, 2, ….
    """

    network: Network
    num_updates: Tensor

    def __init__(self, network: Network, *decays: Decay) -> None:
        super().__init__()
        self.decays = decays
        self.network, *others = (
            copy.deepcopy(network).requires_grad_(False).eval() for _ in decays
        )
        self.others = nn.ModuleList(others)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the weights of `network`; buffers are copied."""
        self.num_updates += 1
        weights: list[Tensor] = [*network.parameters()]
        buffers = list(network.buffers())
        for decay, average in zip(self.decays, (self.network, *self.others), strict=True):
            share = 1 - decay(int(self.num_updates))
            torch._foreach_lerp_([*average.parameters()], weights, share)
            for mine, buffer in zip(average.buffers(), buffers, strict=True):
                mine.copy_(buffer)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: averages are not trained."""
        return super().train(False)
