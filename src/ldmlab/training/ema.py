"""Exponential moving averages of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

Decay = Callable[[int], float]


def warmup_decay(decay: float = 0.9999) -> Decay:
    """min(decay, (1 + n) / (10 + n)) at update n: the published average."""
    return lambda n: min(decay, (1 + n) / (10 + n))


def power_decay(gamma: float = 6.94) -> Decay:
    """(1 - 1/n)^(gamma + 1): an average whose memory grows with training (Karras et al. 2024).

    Args:
        gamma: 6.94 and 16.97 remember the last 10 % and 5 % of training.
    """
    return lambda n: (1 - 1 / n) ** (gamma + 1)


class EMA(nn.Module):
    """A copy of a network that follows its weights slowly.

    Args:
        network: What to follow.
        decay: Share of the average kept at update n = 1, 2, ….
    """

    num_updates: Tensor

    def __init__(self, network: nn.Module, decay: Decay) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the weights of `network`; buffers are copied."""
        self.num_updates += 1
        share = 1 - self.decay(int(self.num_updates))
        averages = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), share)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)

    def train(self, mode: bool = True) -> EMA:
        """Stay in evaluation mode: averages are not trained."""
        return super().train(False)
