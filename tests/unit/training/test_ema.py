"""Averages of weights: their lengths, and others put together from them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ldmlab.core.errors import UserError
from ldmlab.training.ema import EMA, gamma_of, power_lengths
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
