"""Costs against counting by hand."""

from __future__ import annotations

import torch
from torch import nn

from ldmlab.models.cost import count_parameters, measure
from ldmlab.nn.text_transformer import TextTransformer


def test_shared_weight_counts_once() -> None:
    layer = nn.Linear(3, 5)
    assert count_parameters([layer, nn.Sequential(layer, layer)]) == 20


def test_multiply_add_counts_two_flops() -> None:
    with torch.device("meta"):
        convolution = nn.Conv2d(3, 8, 3, padding=1)
        image = torch.empty(1, 3, 10, 12)
    cost = measure(lambda: convolution(image), convolution.parameters())
    assert cost.flops == 2 * (3 * 3 * 3) * 8 * 10 * 12


def test_saved_bytes_are_the_activations() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        x = torch.empty(5, 4)
    cost = measure(lambda: network(x), network.parameters())
    # The input, and what ReLU gives: it and the second layer keep the same one.
    assert cost.saved_bytes == 4 * (5 * 4 + 5 * 6)
    with torch.no_grad():
        assert measure(lambda: network(x), network.parameters()).saved_bytes == 0


def test_unused_logits_projection_is_frozen() -> None:
    torch.manual_seed(0)
    plain = TextTransformer(11, max_length=4, dim=8, depth=1, num_heads=2, head_dim=4)
    kept = TextTransformer(
        11, max_length=4, dim=8, depth=1, num_heads=2, head_dim=4, to_logits=True
    )
    assert count_parameters([kept]) == count_parameters([plain]) + 8 * 11 + 11
    missing = kept.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys == ["to_logits.weight", "to_logits.bias"]
    ids = torch.tensor([[1, 5, 2, 0]])
    assert torch.equal(kept(ids), plain(ids))
    kept(ids).sum().backward()
    assert kept.to_logits.weight.grad is None and kept.tokens.weight.grad is not None
