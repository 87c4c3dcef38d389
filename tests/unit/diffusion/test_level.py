"""Noise levels with a 3-4-5 triangle of signal and noise, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ldmlab.diffusion.level import NoiseLevel


def _level(alpha: float, sigma: float) -> NoiseLevel:
    return NoiseLevel(*torch.tensor([[alpha], [sigma]], dtype=torch.float64))


def test_level_log_snr_is_of_powers() -> None:
    # Ten times the amplitude is twenty decibels: a hundred times the power.
    assert float(_level(1.0, 0.1).log_snr) == pytest.approx(math.log(100))
    assert float(_level(1.0, 0.0).log_snr) == math.inf
    assert float(_level(0.0, 1.0).log_snr) == -math.inf


def test_level_scale_is_the_deviation_of_unit_data() -> None:
    assert float(_level(3.0, 4.0).scale) == pytest.approx(5)


def test_level_solves_for_what_is_not_given() -> None:
    x = torch.tensor([[5.0]], dtype=torch.float64)
    level = _level(0.6, 0.8)
    # 5 = .6 * 3 + .8 * 4
    for prediction in (level.given_x0(x, x - 2), level.given_eps(x, x - 1)):
        assert float(prediction.x0) == pytest.approx(3)
        assert float(prediction.eps) == pytest.approx(4)


def test_level_with_some_signal_keeps_every_other_level() -> None:
    assert float(_level(0.0, 1.0).with_some_signal().alpha) == 1e-9
    kept = _level(1e-6, 0.7).with_some_signal()
    assert (float(kept.alpha), float(kept.sigma)) == (1e-6, 0.7)
