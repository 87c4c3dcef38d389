"""Averages of weights: their lengths, and others put together from them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ldmlab.core.errors import UserError
from ldmlab.training.ema import EMA, gamma_of, power_decay, power_lengths, warmup_decay
from ldmlab.training.post_hoc_ema import Profile, coefficients, combine_weights


@pytest.mark.parametrize(("length", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_power_ema_exponents_match_the_paper(length: float, gamma: float) -> None:
    assert gamma_of(length) == pytest.approx(gamma, abs=0.005)
    g = gamma_of(length)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(length)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.28, 1.0])
def test_power_ema_length_out_of_range_is_refused(length: float) -> None:
    with pytest.raises(UserError, match="between 0 and"):
        gamma_of(length)


def test_synthesised_ema_equals_the_tracked_one() -> None:
    wanted = 0.07
    network = nn.Linear(4, 4)
    tracked, stored = (
        EMA(network, *power_lengths([wanted])),
        EMA(network, *power_lengths([0.1, 0.05])),
    )
    profiles, snapshots = [], []
    generator = torch.Generator().manual_seed(0)
    steps, every = 400, 25
    for step in range(1, steps + 1):
        with torch.no_grad():
            for p in network.parameters():
                p += 0.1 * torch.randn(p.shape, generator=generator)
        tracked.update(network)
        stored.update(network)
        if step % every == 0:
            for length, average in zip((0.1, 0.05), (stored.network, *stored.others), strict=True):
                profiles.append(Profile(step, gamma_of(length)))
                snapshots.append({k: v.clone() for k, v in average.state_dict().items()})
    factors = coefficients(profiles, Profile(steps, gamma_of(wanted)))
    assert factors.sum() == pytest.approx(1, abs=1e-3)
    found = combine_weights(zip(factors.tolist(), snapshots, strict=True))
    for name, value in tracked.network.state_dict().items():
        error = (found[name] - value).norm() / (value - network.state_dict()[name]).norm()
        # Neither stored average is near it.
        for average in (stored.network, *stored.others):
            other = (average.state_dict()[name] - value).norm()
            other = other / (value - network.state_dict()[name]).norm()
            assert other > 10 * error
        assert error < 0.02


def test_ema_follows_its_decays_from_the_first_update() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    ema = EMA(network, lambda n: 1 - 1 / (n + 1), lambda n: 0.75)
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(network.weight, value)
        ema.update(network)
    # A running mean of 0, 1, 2 and 4, and .75 (.75 (.75 0 + .25 1) + .25 2) + .25 4.
    assert float(ema.network.weight) == pytest.approx(7 / 4)
    assert float(ema.others[0].weight) == pytest.approx(0.140625 + 0.375 + 1)
    assert not ema.network.weight.requires_grad
    assert not ema.train().training and not ema.network.training


def test_ema_copies_buffers() -> None:
    network = nn.BatchNorm1d(2).train()
    ema = EMA(network, lambda n: 0.9)
    for step in range(3):
        network(torch.randn(8, 2, generator=torch.Generator().manual_seed(step)) + step)
        ema.update(network)
    assert not torch.equal(network.running_mean, torch.zeros(2))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(ema.network, name), getattr(network, name)), name


def test_ema_decays_match_published_values() -> None:
    decay = warmup_decay(0.9999)
    assert [decay(n) for n in (1, 2, 90)] == pytest.approx([2 / 11, 3 / 12, 0.91])
    assert decay(10**6) == 0.9999
    power = power_decay(6.94)
    assert power(1) == 0
    assert power(100) == pytest.approx(0.99**7.94)


def test_power_ema_weights_the_past_by_its_profile() -> None:
    # The average of weights that are their own number n is that of t^gamma: (g + 1) / (g + 2).
    network = nn.Linear(1, 1, bias=False)
    ema = EMA(network, power_decay(2.0))
    for n in range(1, 2001):
        nn.init.constant_(network.weight, n / 2000)
        ema.update(network)
    assert float(ema.network.weight) == pytest.approx(3 / 4, abs=1e-3)
