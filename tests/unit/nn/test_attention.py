"""Attention against torch's own module."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmlab.nn.attention import (
    GEGLU,
    Attention,
    SpatialSelfAttention,
    SpatialTransformer,
    TransformerBlock,
    multi_head_attention,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _torch_attention(
    q: nn.Linear, k: nn.Linear, v: nn.Linear, out: nn.Linear, num_heads: int
) -> nn.MultiheadAttention:
    """torch's module with the same weights."""
    module = nn.MultiheadAttention(
        q.weight.shape[0],
        num_heads,
        kdim=k.weight.shape[1],
        vdim=v.weight.shape[1],
        batch_first=True,
    )
    with torch.no_grad():
        if module.in_proj_weight is None:
            for name, layer in (("q", q), ("k", k), ("v", v)):
                getattr(module, f"{name}_proj_weight").copy_(layer.weight)
        else:
            module.in_proj_weight.copy_(torch.cat([q.weight, k.weight, v.weight]))
        module.in_proj_bias.zero_()
        module.out_proj.weight.copy_(out.weight)
        module.out_proj.bias.copy_(out.bias)
    return module


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_matches_torch(num_heads: int) -> None:
    x, context = torch.randn(2, 5, 8), torch.randn(2, 7, 12)
    for module, given in (
        (Attention(8, 12, num_heads, 8 // num_heads), context),
        (Attention(8, 8, num_heads, 8 // num_heads), None),
    ):
        other = _torch_attention(module.q, module.k, module.v, module.out, num_heads)
        seen = x if given is None else given
        torch.testing.assert_close(module(x, given), other(x, seen, seen)[0])


def test_attention_weights_are_a_softmax_over_the_root_of_the_head() -> None:
    """One query along a key of length 2 in a head of four: odds of exp(4 / 2) to 1."""
    q = torch.tensor([[[2.0, 0, 0, 0]]])
    k = torch.tensor([[[2.0, 0, 0, 0], [0, 0, 0, 0]]])
    v = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0]]])
    got = multi_head_attention(q, k, v, 1)[0, 0]
    odds = float(torch.tensor(2.0).exp())
    assert got.tolist() == pytest.approx([odds / (1 + odds), 1 / (1 + odds), 0, 0])


def test_spatial_self_attention_matches_torch() -> None:
    module = SpatialSelfAttention(32, num_heads=4, zero_init=False)
    x = torch.randn(2, 32, 3, 5)
    other = nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(module.qkv.weight)
        other.in_proj_bias.copy_(module.qkv.bias)
        other.out_proj.weight.copy_(module.out.weight)
        other.out_proj.bias.copy_(module.out.bias)
        tokens = F.group_norm(x, 32, eps=1e-5).reshape(2, 32, 15).transpose(1, 2)
        attended = other(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(module(x), x + attended, rtol=1e-4, atol=1e-5)


def test_zeroed_attention_starts_as_the_identity() -> None:
    x = torch.randn(2, 32, 3, 5)
    assert torch.equal(SpatialSelfAttention(32)(x), x)
    assert not torch.equal(SpatialSelfAttention(32, zero_init=False)(x), x)
    assert torch.equal(SpatialTransformer(32, 6, num_heads=2)(x, torch.randn(2, 4, 6)), x)


def test_geglu_gates_the_first_half_by_the_second() -> None:
    module = GEGLU(2, 1)
    with torch.no_grad():
        module.proj.weight.copy_(torch.eye(2))
        module.proj.bias.zero_()
    # gelu(1) = .8413, the normal distribution function at 1.
    got = module(torch.tensor([[[3.0, 1.0]]])).detach()
    assert float(got) == pytest.approx(3 * 0.8413447, rel=1e-5)


def test_transformer_block_adds_each_part_to_what_came_in() -> None:
    block, x, context = TransformerBlock(8, 6, 2, 4), torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    parts = [block.self_attention.out, block.cross_attention.out, block.feed_forward[1]]
    with torch.no_grad():
        for part in parts:
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
    assert torch.equal(block(x, context), x)
    # Each part alone, on the normed sequence.
    with torch.no_grad():
        for part in parts:
            nn.init.normal_(part.weight)
            normed = F.layer_norm(x, (8,))
            alone = [
                block.self_attention(normed),
                block.cross_attention(normed, context),
                block.feed_forward(normed),
            ]
            want = alone[parts.index(part)]
            torch.testing.assert_close(block(x, context), x + want, rtol=1e-4, atol=1e-5)
            nn.init.zeros_(part.weight)


def test_transformer_block_has_a_perceptron_four_times_as_wide() -> None:
    block = TransformerBlock(8, 6, 2, 4)
    assert block.feed_forward[1].in_features == 32
    assert SpatialTransformer(32, 6, num_heads=2, depth=3).blocks[2].self_attention.num_heads == 2
    assert len(SpatialTransformer(32, 6, num_heads=2, depth=3).blocks) == 3


def test_spatial_transformer_reads_its_context_at_every_depth() -> None:
    module = SpatialTransformer(32, 6, num_heads=2, depth=2)
    nn.init.normal_(module.proj_out.weight, std=0.1)
    x, context = torch.randn(1, 32, 2, 2), torch.randn(1, 4, 6, requires_grad=True)
    for block in module.blocks:
        seen: list[Tensor] = []
        hook = block.cross_attention.register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(args[1])
        )
        module(x, context)
        hook.remove()
        assert seen[0] is context
    # Exchanging two pixels exchanges the results: no position is added.
    torch.testing.assert_close(module(x.flip(3), context).flip(3), module(x, context))
