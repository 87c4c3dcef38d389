"""Sums of two batches with factors of any shape."""

from __future__ import annotations

import itertools

import pytest
import torch

from ldmlab.core.tensors import (
    broadcast_like,
    combine,
    is_number,
    to_bytes,
    to_unit_range,
    without_autocast,
)


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


def test_bytes_and_the_unit_range_are_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    floats = to_unit_range(every)
    assert (float(floats[0]), float(floats[255])) == (-1, 1)
    assert float(floats[51]) == pytest.approx(-0.6)
    assert torch.equal(to_bytes(floats), every)
    out = torch.empty(256)
    assert to_unit_range(every, out) is out and torch.equal(out, floats)


def test_bytes_are_rounded_and_clipped() -> None:
    # 127.5 (x + 1): 0, 127.49, 127.51, 255 and beyond.
    image = torch.tensor([-1.0, -0.0001, 0.0001, 1.0, -1.5, 1.5, 7.0])
    assert to_bytes(image).tolist() == [0, 127, 128, 255, 0, 255, 255]
    assert to_bytes(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [191]


def test_broadcast_goes_along_rows_in_the_dtype_of_the_other() -> None:
    like = torch.zeros(3, 3, 3, dtype=torch.float32)
    value = broadcast_like(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), like)
    assert value.dtype == torch.float32
    assert (value + like)[:, 0, 2].tolist() == [1, 2, 3]
    assert broadcast_like(torch.tensor(2.0, dtype=torch.float64), like).shape == ()


def test_numbers_are_known_without_asking_a_device() -> None:
    assert is_number(1.0) and is_number(torch.tensor(1.0))
    assert not is_number(torch.ones(1))
    assert not is_number(torch.empty((), device="meta"))


def test_products_keep_their_dtype_without_autocast() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32
    with without_autocast(torch.empty(1, device="meta")):
        pass
