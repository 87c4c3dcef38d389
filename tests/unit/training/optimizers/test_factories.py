"""Which weights an optimiser treats how, at which rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from ldmlab.training.optimizers.factories import adam, adamw, muon


class _Everything(nn.Module):
    """Every kind of weight that networks here have."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.linear = nn.Linear(8, 4)
        self.row = nn.Linear(8, 1)
        self.shift = nn.Parameter(torch.zeros(3))


def test_muon_takes_matrices_of_layers_and_leaves_the_rest() -> None:
    network = _Everything()
    optimizer = muon(network, 1e-3, (0.9, 0.99), 0.2, matrix_ratio=20.0, momentum=0.8)
    names = {id(weight): name for name, weight in network.named_parameters()}
    matrices, rest = (
        {names[id(weight)] for weight in group["params"]} for group in optimizer.param_groups
    )
    assert matrices == {"conv.weight", "linear.weight"}
    assert rest == set(names.values()) - matrices
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-2, 1e-3])
    for group in optimizer.param_groups:
        assert (group["momentum"], group["betas"], group["weight_decay"]) == (0.8, (0.9, 0.99), 0.2)


def _one(make: Callable[..., Optimizer], betas: tuple[float, float], decay: float) -> nn.Linear:
    """A single weight of 2 after steps along the gradients 1, -3 and 2, at a rate of 0.1."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    optimizer = make(network, 0.1, betas, decay)
    for gradient in (1.0, -3.0, 2.0):
        network.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    return network


def test_adam_steps_are_those_of_its_averages() -> None:
    betas = (0.5, 0.9)
    # Averages by hand: m = .5, -1.25, .375 and v = .1, .99, 1.291, over 1 - beta^n.
    steps = [
        (0.5 / 0.5) / (0.1 / 0.1) ** 0.5,
        (-1.25 / 0.75) / (0.99 / 0.19) ** 0.5,
        (0.375 / 0.875) / (1.291 / 0.271) ** 0.5,
    ]
    for make in (adam, adamw):
        assert _one(make, betas, 0.0).weight.item() == pytest.approx(2 - 0.1 * sum(steps), rel=1e-5)


def test_adamw_decays_apart_from_the_gradient_and_adam_through_it() -> None:
    found = {}
    for make in (adam, adamw):
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, 2.0)
        network.weight.grad = torch.zeros(1, 1)
        make(network, 0.1, (0.9, 0.99), 0.25).step()
        found[make] = network.weight.item()
    # A gradient of weight decay alone makes Adam's first step as long as its rate.
    assert found[adam] == pytest.approx(2 - 0.1, rel=1e-5)
    assert found[adamw] == pytest.approx(2 * (1 - 0.1 * 0.25), rel=1e-5)
