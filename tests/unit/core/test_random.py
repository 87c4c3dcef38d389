"""Random numbers that belong to a sample and not to its batch."""

from __future__ import annotations

import hashlib
from typing import Any

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


def test_sample_noise_has_no_second_draw_like_the_first() -> None:
    noise, like = SampleNoise(0, [5]), torch.empty(1, 64)
    first, second = noise.normal(like), noise.normal(like)
    assert not torch.equal(first, second)
    # Neighbouring keys and seeds are as far apart as any.
    rows = [
        SampleNoise(seed, [key]).normal(torch.empty(1, 4000))[0]
        for seed, key in ((0, 5), (0, 6), (1, 5), (5, 0))
    ]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(4)
    assert float(correlation.abs().max()) < 0.08


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_sample_noise_draws_wide_and_rounds(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.dtype] = []
    randn = torch.randn

    def watched(*shape: Any, dtype: torch.dtype, **options: Any) -> torch.Tensor:
        drawn.append(dtype)
        return randn(*shape, dtype=dtype, **options)

    monkeypatch.setattr(torch, "randn", watched)
    assert SampleNoise(0, [0]).normal(torch.empty(1, 8, dtype=dtype)).dtype == dtype
    assert drawn == [torch.float64 if dtype == torch.float64 else torch.float32]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_uniform_numbers_stay_below_one_in_few_bits(dtype: torch.dtype) -> None:
    found = SampleNoise(0, [0]).uniform(torch.empty(1, 20_000, dtype=dtype))
    assert float(found.max()) < 1
    wide = SampleNoise(0, [0]).uniform(torch.empty(1, 20_000))
    torch.testing.assert_close(found.float(), wide, rtol=0, atol=0.004)


def test_strata_give_each_place_its_part() -> None:
    like = torch.empty(4, dtype=torch.float64)
    found = SampleNoise(0, range(4)).strata(like) * 4
    assert found.floor().tolist() == [0, 1, 2, 3]
    inside = SampleNoise(0, range(4)).uniform(like)
    torch.testing.assert_close(found - found.floor(), inside)
    # Of a part, the keys are the places in the whole batch.
    assert (SampleNoise(0, [2, 3], whole=4).strata(like[:2]) * 4).floor().tolist() == [2, 3]
    assert (SampleNoise(0, [70, 90]).strata(like[:2]) * 2).floor().tolist() == [0, 1]


def test_derive_seed_is_the_published_digest() -> None:
    """blake2b of the typed parts, eight bytes, the lowest bit dropped: the same in any version."""
    digest = hashlib.blake2b(b"str:a\x1fint:1", digest_size=8).hexdigest()
    assert derive_seed("a", 1) == int(digest, 16) // 2
    assert derive_seed("a", 1) != derive_seed(1, "a")
