"""The U-Net of latent diffusion: residual blocks, self-attention and cross-attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor, nn

from ldmlab.core.errors import ArgumentError
from ldmlab.core.ranges import fraction, multiple_of, natural, positive_int
from ldmlab.nn.attention import SpatialSelfAttention, SpatialTransformer
from ldmlab.nn.blocks import Downsample, ResBlock, Upsample, group_norm, zeroed
from ldmlab.nn.embeddings import TimeEmbedding


class Stage(nn.Module):
    """A residual block, then attention and a change of resolution where they are wanted.

    Args:
        block: The residual block; None for a stage that only changes the resolution.
        attention: Self-attention, or a transformer that also attends to tokens.
        resample: The change of resolution.
    """

    def __init__(
        self,
        block: ResBlock | None = None,
        attention: SpatialSelfAttention | SpatialTransformer | None = None,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor | None) -> Tensor:
        """Apply the parts in order."""
        if self.block is not None:
            x = self.block(x, embedding)
        if isinstance(self.attention, SpatialTransformer):
            x = self.attention(x, tokens)
        elif self.attention is not None:
            x = self.attention(x)
        if isinstance(self.resample, ResBlock):
            return self.resample(x, embedding)
        return x if self.resample is None else self.resample(x)


class UNet(nn.Module):
    """A U-Net over noised latents (Dhariwal & Nichol 2021, Rombach et al. 2022).

    Args:
        in_channels: Channels of the input, concatenated maps included.
        out_channels: Channels of the prediction.
        token_dim: Width of the tokens attended to; None for self-attention alone.
        vector_dim: Width of a vector added to the time embedding; None for none.
        channels: Base width.
        channel_mult: Width of each level as a multiple of the base; a level halves the size.
        num_res_blocks: Residual blocks a level on the way down; one more on the way up.
        attention_factors: Down-sampling factors (1, 2, 4, …) whose levels attend. The middle
            always attends.
        num_heads: Heads of every attention; give this or `head_channels`.
        head_channels: Channels of a head.
        transformer_depth: Transformer blocks at each attention, when there are tokens.
        dropout: Dropout inside the residual blocks.
        scale_shift: The embedding scales and shifts the norms instead of being added.
        resample_blocks: Change the resolution inside residual blocks instead of convolutions.

    Raises:
        ArgumentError: An argument is out of its range, or heads do not divide the channels.
        ValueError: Neither or both of `num_heads` and `head_channels` are given.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        token_dim: int | None = None,
        vector_dim: int | None = None,
        channels: int = 64,
        channel_mult: Sequence[int] = (1, 2),
        num_res_blocks: int = 2,
        attention_factors: Sequence[int] = (2,),
        num_heads: int | None = None,
        head_channels: int | None = None,
        transformer_depth: int = 1,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample_blocks: bool = False,
    ) -> None:
        super().__init__()
        positive_int(in_channels=in_channels, out_channels=out_channels)
        positive_int.or_none(token_dim=token_dim, vector_dim=vector_dim)
        multiple_of(8)(channels=channels)
        positive_int.many(1)(channel_mult=channel_mult)
        natural(num_res_blocks=num_res_blocks)
        positive_int.many()(attention_factors=attention_factors)
        positive_int.or_none(num_heads=num_heads, head_channels=head_channels)
        positive_int(transformer_depth=transformer_depth)
        fraction(dropout=dropout)
        if (num_heads is None) == (head_channels is None):
            raise ValueError("give the U-Net either num_heads or head_channels")
        self.factor = 2 ** (len(channel_mult) - 1)
        self.token_dim = token_dim
        self.vector_dim = vector_dim
        embedding_dim = 4 * channels

        def block(c_in: int, c_out: int) -> ResBlock:
            return ResBlock(c_in, c_out, embedding_dim, dropout, scale_shift)

        def attention(width: int) -> SpatialSelfAttention | SpatialTransformer:
            heads = num_heads or width // (head_channels or width)
            if not heads or width % heads:
                given = "head_channels" if num_heads is None else "num_heads"
                expects = f"such that its heads divide a width of {width} channels"
                raise ArgumentError(given, expects, num_heads or head_channels)
            if token_dim is None:
                return SpatialSelfAttention(width, heads)
            return SpatialTransformer(width, token_dim, heads, transformer_depth)

        def resample(width: int, way: str) -> nn.Module:
            if resample_blocks:
                return ResBlock(width, width, embedding_dim, dropout, scale_shift, resample=way)  # type: ignore[arg-type]
            return Downsample(width) if way == "down" else Upsample(width)

        self.time_embedding = TimeEmbedding(channels, embedding_dim)
        if vector_dim is not None:
            self.vector_embedding = nn.Linear(vector_dim, embedding_dim)
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)

        self.down = nn.ModuleList()
        skips = [channels]
        width, factor = channels, 1
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                attend = attention(mult * channels) if factor in attention_factors else None
                self.down.append(Stage(block(width, mult * channels), attend))
                width = mult * channels
                skips.append(width)
            if level < len(channel_mult) - 1:
                self.down.append(Stage(resample=resample(width, "down")))
                skips.append(width)
                factor *= 2

        self.middle = nn.ModuleList(
            [Stage(block(width, width), attention(width)), Stage(block(width, width))]
        )

        self.up = nn.ModuleList()
        for level, mult in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                attend = attention(mult * channels) if factor in attention_factors else None
                stage = Stage(block(width + skips.pop(), mult * channels), attend)
                width = mult * channels
                if level > 0 and i == num_res_blocks:
                    stage.resample = resample(width, "up")
                    factor //= 2
                self.up.append(stage)

        self.norm_out = group_norm(width, eps=1e-5)
        self.conv_out = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time: Real[Tensor, " b"],
        tokens: Float[Tensor, "b n d"] | None = None,
        vector: Float[Tensor, "b e"] | None = None,
    ) -> Float[Tensor, "b d_out h w"]:
        """Predict from noised latents.

        Args:
            x: Noised latents, conditioning maps concatenated behind them.
            time: Network time of each sample (the published integer step).
            tokens: Sequence for cross-attention.
            vector: Vector added to the time embedding.

        Returns:
            The prediction, in the process' parameterisation.
        """
        embedding = self.time_embedding(time)
        if vector is not None:
            embedding = embedding + self.vector_embedding(vector)
        h = self.conv_in(x)
        skips = [h]
        for stage in self.down:
            h = stage(h, embedding, tokens)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding, tokens)
        for stage in self.up:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding, tokens)
        return self.conv_out(F.silu(self.norm_out(h)))
