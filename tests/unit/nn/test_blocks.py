"""Blocks of the networks, with weights that show what each does."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldmlab.nn.blocks import Downsample, ResBlock, Upsample, group_norm, zeroed


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("channels", "groups"), [(32, 32), (64, 32), (16, 8), (48, 8), (8, 8)])
def test_group_norm_has_32_groups_or_8(channels: int, groups: int) -> None:
    norm = group_norm(channels, 1e-6)
    assert (norm.num_groups, norm.eps) == (groups, 1e-6)


def test_zeroed_module_gives_zeros() -> None:
    assert not zeroed(nn.Conv2d(2, 3, 1))(torch.randn(1, 2, 4, 4)).any()


def _pixels() -> torch.Tensor:
    return torch.arange(16.0).reshape(1, 1, 4, 4)


def _pick(conv: nn.Conv2d, row: int, column: int) -> None:
    """The convolution becomes one that takes a single place of its window."""
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, :, row, column] = 1
        conv.bias.zero_()


@pytest.mark.parametrize(
    ("padding", "want"),
    [("symmetric", [0, 2, 8, 10]), ("after", [5, 7, 13, 15])],
)
def test_downsample_centres_its_windows_by_the_padding(
    padding: Literal["symmetric", "after"], want: list[int]
) -> None:
    module = Downsample(1, padding)
    _pick(module.conv, 1, 1)
    assert module(_pixels()).flatten().tolist() == want
    assert Downsample(1).padding == "symmetric"


def test_upsample_repeats_each_pixel() -> None:
    module = Upsample(1)
    _pick(module.conv, 1, 1)
    got = module(_pixels())
    assert torch.equal(got, _pixels().repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert Upsample(8, 16)(torch.zeros(1, 8, 2, 2)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize(("resample", "size"), [(None, 4), ("up", 8), ("down", 2)])
def test_zeroed_res_block_is_its_resampled_skip(
    resample: Literal["up", "down"] | None, size: int
) -> None:
    x = torch.randn(2, 8, 4, 4)
    got = ResBlock(8, 8, 16, resample=resample)(x, torch.randn(2, 16))
    plain = {
        None: x,
        "up": x.repeat_interleave(2, 2).repeat_interleave(2, 3),
        "down": x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)),
    }
    assert got.shape[-1] == size
    torch.testing.assert_close(got, plain[resample])
    wider = ResBlock(8, 16)
    torch.testing.assert_close(wider(x), F.conv2d(x, wider.skip.weight, wider.skip.bias))
    assert not torch.equal(ResBlock(8, 8, zero_init=False)(x), x)


@pytest.mark.parametrize("scale_shift", [False, True])
def test_res_block_puts_its_embedding_around_the_second_norm(scale_shift: bool) -> None:
    """With an identity for its convolutions, so that torch's functions say what comes out."""
    block = ResBlock(8, 8, 4, scale_shift=scale_shift)
    with torch.no_grad():
        for conv in (block.conv1, block.conv2):
            conv.weight.zero_()
            conv.bias.zero_()
            conv.weight[:, :, 1, 1] = torch.eye(8)
    x, embedding = torch.randn(2, 8, 3, 3), torch.randn(2, 4)
    h = F.silu(F.group_norm(x, 8, eps=1e-5))
    moved = F.linear(F.silu(embedding), block.embedding.weight, block.embedding.bias)
    if scale_shift:
        scale, shift = moved[:, :8, None, None], moved[:, 8:, None, None]
        h = F.group_norm(h, 8, eps=1e-5) * (1 + scale) + shift
    else:
        h = F.group_norm(h + moved[:, :, None, None], 8, eps=1e-5)
    torch.testing.assert_close(block(x, embedding), x + F.silu(h), rtol=1e-4, atol=1e-5)


def test_res_block_norms_have_the_epsilon_of_their_network() -> None:
    for eps in (1e-5, 1e-6):
        block = ResBlock(8, 16, eps=eps)
        assert block.norm1.eps == block.norm2.eps == eps
    assert ResBlock(8, 8).norm1.eps == 1e-5


def test_res_block_drops_its_share_of_features_in_training_alone() -> None:
    block = ResBlock(8, 8, dropout=0.25, zero_init=False)
    seen: list[torch.Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(16, 8, 16, 16)
    block(x)
    block.eval()(x)
    dropped, kept = seen
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(dropped[dropped != 0] * 0.75, kept[dropped != 0])
    assert bool((kept != 0).all())
