"""Self-attention and cross-attention over feature maps and sequences."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.nn.blocks import group_norm, zeroed


def multi_head_attention(
    q: Float[Tensor, "b n c"], k: Float[Tensor, "b m c"], v: Float[Tensor, "b m c"], num_heads: int
) -> Float[Tensor, "b n c"]:
    """softmax(q kᵀ / sqrt(d)) v in each head, the head being the slow part of a channel index."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


class SpatialSelfAttention(nn.Module):
    """Self-attention over the pixels of a feature map, around a skip connection.

    Args:
        channels: Number of channels.
        num_heads: Number of heads; divides the channels.
        eps: Epsilon of the norm: 1e-5 in the U-Net, 1e-6 in the autoencoder.
        zero_init: Start the residual branch at zero.
    """

    def __init__(
        self, channels: int, num_heads: int = 1, eps: float = 1e-5, zero_init: bool = True
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = group_norm(channels, eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        out = nn.Linear(channels, channels)
        self.out = zeroed(out) if zero_init else out

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Let every pixel attend to every other."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        h = multi_head_attention(q, k, v, self.num_heads)
        return x + self.out(h).transpose(1, 2).reshape(x.shape)


class Attention(nn.Module):
    """Attention of a sequence to a context; to itself when none is given.

    Args:
        dim: Width of the queries and of the result.
        context_dim: Width of the context.
        num_heads: Number of heads.
        head_dim: Width of a head.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.q = nn.Linear(dim, inner, bias=False)
        self.k = nn.Linear(context_dim, inner, bias=False)
        self.v = nn.Linear(context_dim, inner, bias=False)
        self.out = nn.Linear(inner, dim)

    def forward(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m e"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Attend from `x` to `context`."""
        context = x if context is None else context
        h = multi_head_attention(self.q(x), self.k(context), self.v(context), self.num_heads)
        return self.out(h)


class GEGLU(nn.Module):
    """x gelu(gate), both from one projection (Shazeer 2020).

    Args:
        dim: Input width.
        inner: Output width.
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n e"]:
        """Gate the features."""
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and a gated perceptron, each pre-normed and residual.

    Args:
        dim: Width of the sequence.
        context_dim: Width of the tokens attended to.
        num_heads: Number of heads.
        head_dim: Width of a head.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, dim, num_heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, context_dim, num_heads, head_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(GEGLU(dim, 4 * dim), nn.Linear(4 * dim, dim))

    def forward(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b n d"]:
        """Mix the sequence with itself and with the context."""
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), context)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (Rombach et al. 2022, table 16).

    Args:
        channels: Number of channels.
        context_dim: Width of the tokens attended to.
        num_heads: Number of heads; divides the channels.
        depth: Number of transformer blocks.
    """

    def __init__(self, channels: int, context_dim: int, num_heads: int, depth: int = 1) -> None:
        super().__init__()
        self.norm = group_norm(channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, context_dim, num_heads, channels // num_heads)
            for _ in range(depth)
        )
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b c h w"]:
        """Let every pixel attend to every other and to the context."""
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.blocks:
            h = block(h, context)
        return x + self.proj_out(h).transpose(1, 2).reshape(x.shape)
