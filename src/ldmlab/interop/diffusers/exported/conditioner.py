"""Conditioners of a latent diffusion model; this file travels with the model and stands alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

UNLABELLED = 255


class ClassConditioner(ModelMixin, ConfigMixin):
    """One learned token a class; the last row of the table, if `null_class`, means none."""

    @register_to_config
    def __init__(
        self, num_classes: int, dim: int, pooled: bool = False, null_class: bool = True
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes + null_class, dim)

    def read(self, condition: Any) -> Tensor:
        """Numbers of classes, one or a list."""
        labels = torch.as_tensor(condition, device=self.device).reshape(-1).long()
        if bool(((labels < 0) | (labels >= self.config.num_classes)).any()):
            raise ValueError(f"a class is a number from 0 to {self.config.num_classes - 1}")
        return labels

    def null(self, condition: Tensor) -> Tensor:
        """No class."""
        if not self.config.null_class:
            raise ValueError("this model has no null class: use guidance_scale=1")
        return torch.full_like(condition, self.config.num_classes)

    def forward(self, condition: Tensor) -> dict[str, Tensor]:
        """What the U-Net takes beside the latents."""
        token = self.embedding(condition)
        vector = {"class_labels": token} if self.config.pooled else {}
        return {"encoder_hidden_states": token[:, None], **vector}


class MaskConditioner(ModelMixin, ConfigMixin):
    """Labels of pixels, one-hot, shrunk by `factor` and mapped to a few channels."""

    @register_to_config
    def __init__(
        self, num_labels: int, factor: int, map_channels: int | None = 3, bias: bool = False
    ) -> None:
        super().__init__()
        self.proj = (
            nn.Conv2d(num_labels, map_channels, 1, bias=bias) if map_channels else nn.Identity()
        )

    def read(self, condition: Any) -> Tensor:
        """Masks [b, h, w], or one [h, w]; 255 is unlabelled."""
        masks = torch.as_tensor(condition, device=self.device).long()
        wrong = ((masks < 0) | (masks >= self.config.num_labels)) & (masks != UNLABELLED)
        if bool(wrong.any()):
            raise ValueError(f"a label is a number from 0 to {self.config.num_labels - 1}, or 255")
        return masks if masks.ndim == 3 else masks[None]

    def null(self, condition: Tensor) -> Tensor:
        """A mask without labels."""
        return torch.full_like(condition, UNLABELLED)

    def forward(self, condition: Tensor) -> dict[str, Tensor]:
        """Maps to concatenate to the latents."""
        labelled = condition != UNLABELLED
        one_hot = F.one_hot(condition.where(labelled, 0), self.config.num_labels)
        one_hot = (one_hot * labelled[..., None]).movedim(-1, 1).to(self.dtype)
        return {"maps": self.proj(F.avg_pool2d(one_hot, self.config.factor))}


class TextConditioner(ModelMixin, ConfigMixin):
    """WordPiece tokens through a small transformer; needs the package `tokenizers`."""

    @register_to_config
    def __init__(
        self,
        vocabulary: list[str],
        max_length: int,
        dim: int,
        depth: int,
        num_heads: int,
        head_dim: int,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        from tokenizers import BertWordPieceTokenizer

        self.tokenizer = BertWordPieceTokenizer({w: i for i, w in enumerate(vocabulary)})
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.enable_padding(length=max_length)
        self.padding = vocabulary.index("[PAD]")
        self.tokens = nn.Embedding(len(vocabulary), dim)
        self.positions = nn.Embedding(max_length, dim)
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(dim, num_heads, head_dim, activation_fn="gelu")
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def read(self, condition: Any) -> Tensor:
        """Numbers of the tokens of captions, one or a list."""
        captions = [condition] if isinstance(condition, str) else list(condition)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(captions)]
        return torch.tensor(ids, device=self.device)

    def null(self, condition: Tensor) -> Tensor:
        """The empty caption."""
        return self.read("").expand_as(condition)

    def forward(self, condition: Tensor) -> dict[str, Tensor]:
        """What the U-Net takes beside the latents."""
        h = self.tokens(condition) + self.positions.weight
        for block in self.blocks:
            h = block(h)
        tokens = self.norm(h)
        if not self.config.pooled:
            return {"encoder_hidden_states": tokens}
        real = (condition != self.padding).to(tokens.dtype)[..., None]
        vector = (tokens * real).sum(1) / real.sum(1)
        return {"encoder_hidden_states": tokens, "class_labels": vector}
