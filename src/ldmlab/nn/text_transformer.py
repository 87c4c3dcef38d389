"""The text encoder of latent diffusion: a pre-norm transformer over token numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldmlab.core.ranges import positive_int
from ldmlab.nn.attention import Attention


class TextTransformer(nn.Module):
    """Token and position embeddings, then pre-norm blocks; padding is attended to, as published.

    Args:
        vocab_size: Number of tokens.
        max_length: Longest sequence.
        dim: Width.
        depth: Number of blocks.
        num_heads: Number of heads.
        head_dim: Width of a head.
        to_logits: Keep the published projection to the vocabulary, which diffusion never uses:
            frozen, for strict loads and the published count.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int = 77,
        dim: int = 1280,
        depth: int = 32,
        num_heads: int = 8,
        head_dim: int = 64,
        to_logits: bool = False,
    ) -> None:
        super().__init__()
        positive_int(vocab_size=vocab_size, max_length=max_length, dim=dim, depth=depth)
        positive_int(num_heads=num_heads, head_dim=head_dim)
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions = nn.Embedding(max_length, dim)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(dim, num_heads, head_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        if to_logits:
            self.to_logits = nn.Linear(dim, vocab_size).requires_grad_(False)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """One vector per token."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        h = self.tokens(ids) + self.positions(positions)
        for block in self.blocks:
            h = block(h)
        return self.norm(h)


class _Block(nn.Module):
    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, dim, num_heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))
