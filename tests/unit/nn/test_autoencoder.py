"""How encoder and decoder are put together."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldmlab.nn.attention import SpatialSelfAttention
from ldmlab.nn.autoencoder import Decoder, Encoder
from ldmlab.nn.blocks import Downsample, ResBlock, Upsample

SHAPE = {"channels": 16, "channel_mult": (1, 2, 3), "num_res_blocks": 2}


def _count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(m, kind) for m in module.modules())


@pytest.mark.parametrize("patch", [1, 2])
def test_decoder_gives_back_the_encoders_shape(patch: int) -> None:
    encoder, decoder = Encoder(3, 8, **SHAPE, patch=patch), Decoder(4, 3, **SHAPE, patch=patch)
    features = encoder(torch.randn(2, 3, 16, 32))
    assert encoder.factor == 4 * patch
    assert features.shape == (2, 8, 16 // encoder.factor, 32 // encoder.factor)
    assert decoder(features[:, :4]).shape == (2, 3, 16, 32)


def test_decoder_has_one_block_more_a_level() -> None:
    encoder, decoder = Encoder(3, 8, **SHAPE), Decoder(4, 3, **SHAPE)
    assert _count(encoder, ResBlock) == 3 * 2 + 2
    assert _count(decoder, ResBlock) == 3 * 3 + 2
    assert _count(encoder, Downsample) == _count(decoder, Upsample) == 2
    # The published autoencoders pad after, right and below.
    assert {m.padding for m in encoder.modules() if isinstance(m, Downsample)} == {"after"}


@pytest.mark.parametrize(
    ("options", "widths", "up_widths"),
    [
        ({}, [48], [48]),
        ({"middle_attention": False}, [], []),
        ({"attention_factors": (2,)}, [32, 32, 48], [48, 32, 32, 32]),
        ({"attention_factors": (1,), "middle_attention": False}, [16, 16], [16] * 3),
        ({"attention_factors": (2,), "patch": 2}, [16, 16, 48], [48, 16, 16, 16]),
    ],
)
def test_autoencoder_attends_at_its_factors(
    options: dict[str, object], widths: list[int], up_widths: list[int]
) -> None:
    for module, want in (
        (Encoder(3, 8, **SHAPE | options), widths),
        (Decoder(4, 3, **SHAPE | options), up_widths),
    ):
        found = [
            m.norm.num_channels for m in module.modules() if isinstance(m, SpatialSelfAttention)
        ]
        assert found == want


def test_autoencoder_norms_have_the_published_epsilon_and_no_branch_is_zero() -> None:
    for module in (Encoder(3, 8, **SHAPE), Decoder(4, 3, **SHAPE)):
        assert {m.eps for m in module.modules() if isinstance(m, nn.GroupNorm)} == {1e-6}
        assert all(p.any() for name, p in module.named_parameters() if name.endswith("weight"))


def test_autoencoder_ends_on_norm_silu_and_convolution() -> None:
    torch.manual_seed(0)
    for module, x in (
        (Encoder(3, 8, **SHAPE), torch.randn(1, 3, 8, 8)),
        (Decoder(4, 3, **SHAPE), torch.randn(1, 4, 2, 2)),
    ):
        h = F.group_norm(module.layers(x), module.norm_out.num_groups, eps=1e-6)
        want = F.conv2d(
            h * torch.sigmoid(h), module.conv_out.weight, module.conv_out.bias, padding=1
        )
        torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-5)
