"""Random numbers that belong to a sample and not to its batch."""

from __future__ import annotations

import pytest
import torch

from ldmlab.core.random import SampleNoise, derive_seed


def test_sample_noise_row_depends_on_its_key_alone() -> None:
    like = torch.empty(6, 3, 8, 8)
    whole = SampleNoise(7, range(6))
    first, second = whole.normal(like), whole.normal(like)
    for size in (1, 2, 3):
        for start in range(0, 6, size):
            part = SampleNoise(7, range(start, start + size))
            assert torch.equal(part.normal(like[:size]), first[start : start + size])
            assert torch.equal(part.normal(like[:size]), second[start : start + size])


def test_sample_noise_differs_between_keys_and_seeds() -> None:
    like = torch.empty(2, 100)
    a, b = SampleNoise(0, [0, 1]).normal(like)
    assert not torch.equal(a, b)
    assert not torch.equal(a, SampleNoise(1, [0, 1]).normal(like)[0])


def test_sample_noise_is_standard_normal_and_uniform() -> None:
    noise = SampleNoise(0, range(4))
    normal = noise.normal(torch.empty(4, 50_000))
    assert normal.mean().abs() < 0.01
    assert (normal.std() - 1).abs() < 0.01
    uniform = noise.uniform(torch.empty(4, 50_000))
    assert 0 <= uniform.min() < uniform.max() < 1
    assert (uniform.mean() - 0.5).abs() < 0.01


def test_sample_noise_refuses_another_batch_size() -> None:
    with pytest.raises(ValueError, match="2 sample keys"):
        SampleNoise(0, range(2)).normal(torch.empty(3, 1))


def test_derive_seed_is_stable_and_tells_types_apart() -> None:
    assert derive_seed("a", 1) == derive_seed("a", 1)
    assert len({derive_seed("a", 1), derive_seed("a", "1"), derive_seed("a1")}) == 3
    assert 0 <= derive_seed("x") < 2**63
