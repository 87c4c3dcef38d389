"""Conditioning on a caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.conditioning.vocabulary import WordPiece
from ldmlab.core.records import Batch, Conditioning, DataSpec
from ldmlab.nn.text_transformer import TextTransformer


class TextConditioner(Conditioner):
    """WordPiece tokens through a transformer trained with the diffusion model.

    The empty caption is the null condition.

    Args:
        vocabulary: The tokens in order of their numbers.
        max_length: Number of tokens; longer captions are cut.
        dim: Width of the tokens.
        depth: Number of transformer blocks.
        num_heads: Number of heads.
        head_dim: Width of a head.
        pooled: Give the mean of the caption's tokens as a vector for the time embedding too.
        to_logits: Keep the transformer's published, unused projection to the vocabulary.
    """

    input_key = "caption"

    def __init__(
        self,
        vocabulary: Sequence[str],
        max_length: int = 77,
        dim: int = 1280,
        depth: int = 32,
        num_heads: int = 8,
        head_dim: int = 64,
        pooled: bool = False,
        to_logits: bool = False,
    ) -> None:
        super().__init__()
        self.tokenizer = WordPiece(vocabulary, max_length)
        self.token_dim = dim
        self.vector_dim = dim if pooled else None
        self.transformer = TextTransformer(
            len(vocabulary), max_length, dim, depth, num_heads, head_dim, to_logits
        )
        null = self.tokenizer([""])
        self._empty: Tensor
        self.register_buffer("_empty", null, persistent=False)
        self._padding = int(null[0, -1])

    @classmethod
    def for_data(cls, spec: DataSpec, factor: int, **shape: Any) -> TextConditioner:
        """The conditioner for a data set; the codec's factor does not matter.

        Raises:
            UserError: The data has no captions.
        """
        return cls(require(spec.vocabulary, "caption", "text"), **shape)

    def select(self, batch: Batch) -> Int[Tensor, "b n"]:
        """The caption's tokens.

        Raises:
            UserError: There are no captions.
        """
        captions = require(batch.caption, "caption", "text")
        return self.tokenizer(captions).to(self._empty.device)

    def null(self, condition: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """The empty caption."""
        return self._empty.expand_as(condition)

    def forward(self, condition: Int[Tensor, "b n"]) -> Conditioning:
        """The caption as a sequence, and pooled where asked for."""
        tokens = self.transformer(condition)
        if self.vector_dim is None:
            return Conditioning(tokens=tokens)
        real = (condition != self._padding).to(tokens.dtype)[..., None]
        vector = (tokens * real).sum(1) / real.sum(1)
        return Conditioning(tokens=tokens, vector=vector)
