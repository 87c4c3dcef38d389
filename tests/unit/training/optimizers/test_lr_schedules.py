"""Learning rates at the steps that matter."""

from __future__ import annotations

import math

import pytest

from ldmlab.training.optimizers.lr_schedules import constant, warmup_cosine


def test_warm_up_rises_evenly_to_its_end() -> None:
    for factor in (constant(100, 4), warmup_cosine(100, 4)):
        assert [factor(n) for n in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [constant(100, 4, start=0.5)(n) for n in (0, 2, 4)] == pytest.approx([0.5, 0.75, 1.0])
    assert constant(100, 4)(1_000) == constant(100)(0) == 1


def test_cosine_falls_from_the_warm_up_to_the_last_step() -> None:
    factor = warmup_cosine(110, 10, final=0.2)
    # Over the 100 steps behind the warm-up: a third, half and two thirds of the way by angle.
    assert factor(10) == 1
    assert factor(60) == pytest.approx(0.6)
    assert factor(35) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert factor(85) == pytest.approx(0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2)
    assert factor(110) == factor(500) == pytest.approx(0.2)
    falling = [factor(n) for n in range(10, 111)]
    assert falling == sorted(falling, reverse=True)
    assert warmup_cosine(100)(100) == pytest.approx(0)
