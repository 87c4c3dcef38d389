"""Sums of two batches with factors of any shape."""

from __future__ import annotations

import itertools

import torch

from ldmlab.core.tensors import combine


def test_combine_equals_the_sum_for_every_kind_of_factor() -> None:
    # B == W: a factor that broadcasts along the wrong axis would go unseen otherwise.
    x, y = torch.randn(3, 3, 3), torch.randn(3, 3, 3)
    for a, b in itertools.product((0.0, 1.0, -0.3), repeat=2):
        scalar = combine(torch.tensor(a), x, torch.tensor(b), y)
        torch.testing.assert_close(scalar, a * x + b * y)
    rows = torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(
        combine(rows, x, -rows, y), rows[:, None, None] * x - rows[:, None, None] * y
    )


def test_combine_does_not_change_its_arguments() -> None:
    x, y = torch.ones(2, 2), torch.ones(2, 2)
    combine(torch.tensor(2.0), x, torch.tensor(3.0), y)
    assert bool((x == 1).all())
    assert bool((y == 1).all())
