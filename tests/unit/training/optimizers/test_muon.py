"""Muon's update against its law, and against torch's own for matrices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ldmlab.training.optimizers.muon import Muon, orthogonalize

SHAPES = [(8, 72), (72, 8), (16, 16)]


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_update_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalize(_drawn(*shape)))
    assert float(values.min()) > 0.4
    assert float(values.max()) < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalisation_is_the_published_quintic_of_singular_values(
    shape: tuple[int, int],
) -> None:
    matrix = _drawn(*shape).double()
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(5):  # Jordan et al. 2024: the coefficients and the number of iterations
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalize(matrix), u * s @ v, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_steps_equal_those_of_torch(shape: tuple[int, int]) -> None:
    mine, theirs = (nn.Parameter(_drawn(*shape)) for _ in range(2))
    numbers = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.3}
    ours = Muon([{"params": [mine], "lr": 0.05, "orthogonal": True}], 0.9, weight_decay=0.3)
    oracle = torch.optim.Muon([theirs], nesterov=True, **numbers)
    for step in range(4):
        before = theirs.detach().clone()
        for weight, optimizer in ((mine, ours), (theirs, oracle)):
            weight.grad = _drawn(*shape, seed=step + 1) / (step + 1)
            optimizer.step()
        # Torch orthogonalises with the eight bits of bfloat16.
        error = (mine - theirs).norm() / (theirs.detach() - before).norm()
        assert float(error) < 0.03, step


def test_muon_steps_along_the_gradient_ahead_of_its_momentum() -> None:
    # Of a gradient a, then b, the second direction is .1 b + .9 (.9 .1 a + .1 b).
    a, b = _drawn(6, 6, seed=1).double(), _drawn(6, 6, seed=2).double()
    weight = nn.Parameter(torch.zeros(6, 6).double())
    optimizer = Muon([{"params": [weight], "lr": 1.0, "orthogonal": True}], momentum=0.9)
    weight.grad = a
    optimizer.step()
    torch.testing.assert_close(weight.detach(), -orthogonalize(a))
    first = weight.detach().clone()
    weight.grad = b
    optimizer.step()
    torch.testing.assert_close(weight.detach() - first, -orthogonalize(0.081 * a + 0.19 * b))


def test_muon_takes_a_convolution_for_the_matrix_of_its_outputs() -> None:
    gradient = _drawn(8, 3, 2, 2)
    weights = [nn.Parameter(torch.ones(8, 3, 2, 2)), nn.Parameter(torch.ones(8, 12))]
    groups = [{"params": weights, "lr": 0.1, "orthogonal": True}]
    optimizer = Muon(groups, weight_decay=0.1)
    weights[0].grad, weights[1].grad = gradient, gradient.flatten(1)
    optimizer.step()
    torch.testing.assert_close(weights[0].flatten(1), weights[1])


def test_muon_scales_the_step_of_tall_matrices_alone() -> None:
    for rows, columns, scale in ((32, 8, 2.0), (8, 32, 1.0), (8, 8, 1.0)):
        weight = nn.Parameter(torch.zeros(rows, columns))
        weight.grad = _drawn(rows, columns)
        Muon([{"params": [weight], "lr": 0.5, "orthogonal": True}]).step()
        step = orthogonalize(weight.grad)
        torch.testing.assert_close(weight.detach(), -0.5 * scale * step)


def test_muon_of_no_gradient_only_decays() -> None:
    for orthogonal in (True, False):
        weight = nn.Parameter(_drawn(4, 4))
        before = weight.detach().clone()
        weight.grad = torch.zeros(4, 4)
        groups = [{"params": [weight], "lr": 0.5, "orthogonal": orthogonal}]
        Muon(groups, weight_decay=0.2).step()
        torch.testing.assert_close(weight.detach(), 0.9 * before)


def test_muon_adamw_part_equals_torch_adamw() -> None:
    ours = nn.Sequential(nn.Linear(4, 1), nn.GroupNorm(1, 1))
    theirs = copy.deepcopy(ours)
    groups = [{"params": list(ours.parameters()), "lr": 1e-2, "orthogonal": False}]
    pair = (
        Muon(groups, betas=(0.7, 0.99), weight_decay=0.1),
        torch.optim.AdamW(theirs.parameters(), 1e-2, (0.7, 0.99), weight_decay=0.1),
    )
    for step in range(5):
        x = _drawn(6, 4, seed=step)
        for network, optimizer in zip((ours, theirs), pair, strict=True):
            optimizer.zero_grad()
            (network(x) - step).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
