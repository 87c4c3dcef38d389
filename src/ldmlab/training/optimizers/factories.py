"""Builds optimisers for a whole network, so that matrices may be treated apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from ldmlab.core.ranges import fraction, non_negative, positive
from ldmlab.training.optimizers.muon import Muon

OptimizerFactory = Callable[[nn.Module], Optimizer]


def _check(lr: float, betas: tuple[float, float], weight_decay: float) -> None:
    positive(lr=lr)
    fraction.many(2, 2)(betas=betas)
    non_negative(weight_decay=weight_decay)


def adamw(
    network: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    _check(lr, betas, weight_decay)
    return AdamW(network.parameters(), lr, betas, weight_decay=weight_decay, fused=True)


def adam(
    network: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float
) -> Optimizer:
    """Adam (Kingma & Ba 2015)."""
    _check(lr, betas, weight_decay)
    return Adam(network.parameters(), lr, betas, weight_decay=weight_decay, fused=True)


def muon(
    network: nn.Module,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    matrix_ratio: float = 10.0,
    momentum: float = 0.95,
) -> Optimizer:
    """Muon for the weights of convolutions and linear layers, AdamW for everything else.

    Args:
        network: What is trained.
        lr: Learning rate of norms, biases and embeddings.
        betas: AdamW's averages.
        weight_decay: Decoupled decay of all weights.
        matrix_ratio: Learning rate of the matrices as a multiple of `lr`.
        momentum: Share of the matrices' momentum kept at each step.
    """
    _check(lr, betas, weight_decay)
    positive(matrix_ratio=matrix_ratio)
    fraction(momentum=momentum)
    matrices = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and min(module.weight.flatten(1).shape) > 1
    ]
    apart = {id(weight) for weight in matrices}
    rest = [weight for weight in network.parameters() if id(weight) not in apart]
    return Muon(
        [
            {"params": matrices, "lr": matrix_ratio * lr, "orthogonal": True},
            {"params": rest, "lr": lr, "orthogonal": False},
        ],
        momentum,
        betas,
        weight_decay,
    )


def lay_out_state(optimizer: Optimizer) -> None:
    """Give an optimiser's state the order in memory that its parameters have.

    Fused steps walk through both side by side, and a checkpoint of sharded networks, or of before
    the channels were last, holds another order.

    Args:
        optimizer: Has perhaps just taken the state of a checkpoint.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            alike = isinstance(value, Tensor) and value.shape == parameter.shape
            if alike and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
