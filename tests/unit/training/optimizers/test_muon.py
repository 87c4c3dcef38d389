"""Muon's update, and the averages of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldmlab.training.ema import EMA, power_decay, warmup_decay
from ldmlab.training.optimizers.factories import adamw, muon
from ldmlab.training.optimizers.lr_schedules import constant, warmup_cosine
from ldmlab.training.optimizers.muon import orthogonalize


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16)])
def test_muon_update_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert float(values.min()) > 0.4
    assert float(values.max()) < 1.3


def test_muon_trains_matrices_and_the_rest_apart() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(288, 4))
    optimizer = muon(network, 1e-3, (0.9, 0.99), 0.0, matrix_ratio=100.0, momentum=0.0)
    before = [p.detach().clone() for p in network.parameters()]
    network(torch.randn(5, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    step = network[0].weight.detach() - before[0]
    values = torch.linalg.svdvals(step.flatten(1)) / 0.1
    assert 0.4 < float(values.min()) <= float(values.max()) < 1.3
    norm = (network[1].weight.detach() - before[2]).abs()
    torch.testing.assert_close(norm, torch.full_like(norm, 1e-3), rtol=1e-3, atol=0)


def test_muon_adamw_part_equals_torch_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Linear(4, 1), nn.GroupNorm(1, 1)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    pair = (muon(ours, 1e-2, (0.9, 0.99), 0.1), adamw(theirs, 1e-2, (0.9, 0.99), 0.1))
    for step in range(5):
        x = torch.randn(6, 4)
        for network, optimizer in zip((ours, theirs), pair, strict=True):
            optimizer.zero_grad()
            (network(x) - step).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_ema_follows_its_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    ema = EMA(network, lambda n: 0.75)
    start = float(network.weight.detach())
    with torch.no_grad():
        network.weight += 1
    ema.update(network)
    assert float(ema.network.weight) == pytest.approx(start + 0.25)
    assert not ema.network.weight.requires_grad
    assert not ema.train().training


def test_ema_decays_match_published_values() -> None:
    assert warmup_decay(0.9999)(1) == pytest.approx(2 / 11)
    assert warmup_decay(0.9999)(10**6) == 0.9999
    assert power_decay(6.94)(1) == 0
    assert power_decay(6.94)(100) == pytest.approx(0.99**7.94)


def test_lr_schedule_warms_up_and_decays() -> None:
    factor = warmup_cosine(100, 10)
    assert [factor(0), factor(9), factor(10)] == pytest.approx([1 / 11, 10 / 11, 1.0])
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0.0)
    assert constant(100, 4)(1_000) == 1
