"""The text encoder: pre-normed blocks, positions, and padding that is attended to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ldmlab.nn.text_transformer import TextTransformer


def _encoder(depth: int = 2) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(11, max_length=6, dim=16, depth=depth, num_heads=2, head_dim=8)


def test_text_transformer_matches_torch() -> None:
    """torch's own encoder layer of the same weights, pre-normed and with an exact gelu."""
    encoder = _encoder(depth=1)
    nn.init.normal_(encoder.tokens.weight)
    nn.init.normal_(encoder.positions.weight)
    block = encoder.blocks[0]
    other = nn.TransformerEncoderLayer(
        16, 2, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    attention = block.attention
    with torch.no_grad():
        other.self_attn.in_proj_weight.copy_(
            torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
        )
        other.self_attn.in_proj_bias.zero_()
        other.self_attn.out_proj.load_state_dict(attention.out.state_dict())
        other.linear1.load_state_dict(block.feed_forward[0].state_dict())
        other.linear2.load_state_dict(block.feed_forward[2].state_dict())
    ids = torch.tensor([[1, 4, 0], [7, 7, 2]])
    h = F.embedding(ids, encoder.tokens.weight) + encoder.positions.weight[:3]
    want = F.layer_norm(other(h), (16,))
    torch.testing.assert_close(encoder(ids), want, rtol=1e-4, atol=1e-5)


def test_text_transformer_tells_places_apart_and_looks_both_ways() -> None:
    encoder = _encoder()
    nn.init.normal_(encoder.tokens.weight)
    nn.init.normal_(encoder.positions.weight)
    first, last = encoder(torch.tensor([[1, 4, 4]])), encoder(torch.tensor([[1, 4, 5]]))
    assert not torch.allclose(first[0, 1], first[0, 2], atol=1e-2)
    # The first token's vector knows the last token, padding or not.
    assert not torch.allclose(first[0, 0], last[0, 0], atol=1e-4)


def test_text_transformer_embeddings_start_small() -> None:
    encoder = TextTransformer(500, max_length=77, dim=32, depth=1, num_heads=1, head_dim=8)
    for table in (encoder.tokens, encoder.positions):
        assert 0.018 < float(table.weight.std()) < 0.022
