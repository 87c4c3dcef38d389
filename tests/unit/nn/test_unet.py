"""How the U-Net is put together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ldmlab.core.errors import ArgumentError
from ldmlab.nn.attention import SpatialSelfAttention, SpatialTransformer
from ldmlab.nn.blocks import Downsample, ResBlock, Upsample
from ldmlab.nn.unet import UNet


def _unet(**options: Any) -> UNet:
    """Three levels of one block each."""
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 2, 3), "num_res_blocks": 1, "num_heads": 2}
    return UNet(3, 5, **shape | options)


def _widths(unet: UNet, kind: type[nn.Module]) -> list[int]:
    return [m.norm.num_channels for m in unet.modules() if isinstance(m, kind)]  # type: ignore[attr-defined,union-attr]


def _alive(unet: UNet) -> UNet:
    """No layer gives zeros any more."""
    with torch.no_grad():
        for parameter in unet.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return unet


def test_untrained_unet_predicts_zero() -> None:
    unet = _unet()
    got = unet(torch.randn(2, 3, 8, 8), torch.tensor([1, 2]))
    assert got.shape == (2, 5, 8, 8) and not got.any()
    assert unet.factor == 4


@pytest.mark.parametrize(
    ("factors", "widths"),
    [((), [96]), ((2,), [64, 96, 64, 64]), ((1, 4), [32, 96, 96, 96, 96, 32, 32])],
)
def test_unet_attends_at_its_factors_and_in_the_middle(
    factors: tuple[int, ...], widths: list[int]
) -> None:
    assert _widths(_unet(attention_factors=factors), SpatialSelfAttention) == widths
    cross = _unet(attention_factors=factors, token_dim=6, transformer_depth=2)
    assert _widths(cross, SpatialTransformer) == widths
    assert all(len(m.blocks) == 2 for m in cross.modules() if isinstance(m, SpatialTransformer))


def test_unet_heads_are_counted_or_measured() -> None:
    by_count, by_width = (
        [m.num_heads for m in unet.modules() if isinstance(m, SpatialSelfAttention)]
        for unet in (
            _unet(attention_factors=(1,)),
            _unet(attention_factors=(1,), num_heads=None, head_channels=16),
        )
    )
    assert by_count == [2, 2, 2, 2]
    assert by_width == [2, 6, 2, 2]
    with pytest.raises(ArgumentError, match="head_channels"):
        _unet(num_heads=None, head_channels=17)


def test_unet_changes_resolution_by_convolutions_or_blocks() -> None:
    plain, blocks = _unet(), _unet(resample_blocks=True)
    kinds = [type(m) for m in plain.modules() if isinstance(m, Downsample | Upsample)]
    assert kinds == [Downsample, Downsample, Upsample, Upsample]
    ways = [m.resample for m in blocks.modules() if isinstance(m, ResBlock) and m.resample]
    assert ways == ["down", "down", "up", "up"]


@pytest.mark.parametrize("options", [{}, {"scale_shift": True}, {"resample_blocks": True}])
def test_unet_hands_each_feature_across(options: dict[str, Any]) -> None:
    """Each of the way down's results is read on the way up, the last one first."""
    unet = _alive(_unet(**options)).eval()
    given: list[Tensor] = []
    made: list[Tensor] = []
    unet.conv_in.register_forward_hook(lambda _, args, out: made.append(out))
    for stage in unet.down:
        stage.register_forward_hook(lambda _, args, out: made.append(out))
    for stage in unet.up:
        stage.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        unet(torch.randn(2, 3, 8, 8), torch.tensor([1, 2]))
    assert len(given) == len(made) == 6
    for x, skip in zip(given, reversed(made), strict=True):
        assert torch.equal(x[:, -skip.shape[1] :], skip)


def test_unet_depends_on_time_tokens_and_vector() -> None:
    unet = _alive(_unet(token_dim=6, vector_dim=4, attention_factors=())).eval()
    x, time = torch.randn(1, 3, 8, 8), torch.tensor([10])
    tokens, vector = torch.randn(1, 2, 6), torch.randn(1, 4)
    with torch.no_grad():
        plain = unet(x, time, tokens, vector)
        others = [
            unet(x, time + 300, tokens, vector),
            unet(x, time, tokens + 1, vector),
            unet(x, time, tokens, vector + 1),
        ]
        # The vector adds to the time's embedding: what it says, its layer says.
        silent = unet(x, time, tokens)
        nn.init.zeros_(unet.vector_embedding.weight)
        nn.init.zeros_(unet.vector_embedding.bias)
        torch.testing.assert_close(unet(x, time, tokens, vector), silent)
    assert all(float((other - plain).abs().max()) > 1e-4 for other in others)


def test_unet_drops_features_in_training_alone() -> None:
    unet = _alive(_unet(dropout=0.3, scale_shift=True, resample_blocks=True))
    blocks = [m for m in unet.modules() if isinstance(m, ResBlock)]
    assert {block.dropout.p for block in blocks} == {0.3}
    assert all(block.scale_shift for block in blocks)
    x, time = torch.randn(1, 3, 8, 8), torch.tensor([10])
    with torch.no_grad():
        assert not torch.equal(unet(x, time), unet(x, time))
        unet.eval()
        assert torch.equal(unet(x, time), unet(x, time))


def test_unet_norms_have_the_published_epsilon() -> None:
    """1e-5 everywhere but at the door of a transformer (Rombach et al. 2022)."""
    unet = _unet(token_dim=6)
    transformers = {m.norm for m in unet.modules() if isinstance(m, SpatialTransformer)}
    norms = {m for m in unet.modules() if isinstance(m, nn.GroupNorm)}
    assert {norm.eps for norm in transformers} == {1e-6}
    assert {norm.eps for norm in norms - transformers} == {1e-5}
    assert unet.time_embedding.mlp[0].out_features == 4 * 32
