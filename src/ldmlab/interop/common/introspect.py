"""Reads a network's constructor options off the network itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL, VQ, Bottleneck
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.conditioning.text import TextConditioner
from ldmlab.nn.attention import SpatialSelfAttention, SpatialTransformer
from ldmlab.nn.blocks import ResBlock, Upsample
from ldmlab.nn.unet import Stage, UNet


def unet_options(unet: UNet) -> dict[str, Any]:
    """Keyword arguments that build this U-Net again, without its weights.

    Heads of one number come back as `num_heads`, others as `head_channels`.
    """
    levels = unet_levels(unet)
    attentions = [part for part in unet.modules() if isinstance(part, _ATTENTIONS)]
    heads = sorted({heads_of(part) for part in attentions})
    attends = [stages[0].attention is not None for stages in levels]
    finest = levels[0][0].block
    assert finest is not None
    channels = unet.conv_in.out_channels
    transformers = [part for part in attentions if isinstance(part, SpatialTransformer)]
    resamples = [stage.resample for stage in unet.up if stage.resample is not None]
    return {
        "in_channels": unet.conv_in.in_channels,
        "out_channels": unet.conv_out.out_channels,
        "token_dim": unet.token_dim,
        "vector_dim": unet.vector_dim,
        "channels": channels,
        "channel_mult": [_width(stages) // channels for stages in levels],
        "num_res_blocks": len(levels[0]) - 1,
        "attention_factors": [2**level for level, attend in enumerate(attends) if attend],
        "num_heads": heads[0] if len(heads) == 1 else None,
        "head_channels": None if len(heads) == 1 else _head_channels(attentions[0]),
        "transformer_depth": len(transformers[0].blocks) if transformers else 1,
        "dropout": finest.dropout.p,
        "scale_shift": finest.scale_shift,
        "resample_blocks": any(isinstance(part, ResBlock) for part in resamples),
    }


def unet_levels(unet: UNet) -> list[list[Stage]]:
    """The stages of the way up, level by level, the finest first."""
    levels: list[list[Stage]] = [[]]
    for stage in unet.up:
        assert isinstance(stage, Stage)
        levels[-1].append(stage)
        if stage.resample is not None:
            levels.append([])
    return levels[::-1]


def heads_of(attention: nn.Module) -> int:
    """Number of heads of an attention of the U-Net."""
    if isinstance(attention, SpatialTransformer):
        block: Any = attention.blocks[0]
        return block.self_attention.num_heads
    assert isinstance(attention, SpatialSelfAttention)
    return attention.num_heads


def norm_groups(module: nn.Module) -> set[int]:
    """The numbers of groups of a module's norms."""
    return {part.num_groups for part in module.modules() if isinstance(part, nn.GroupNorm)}


def autoencoder_options(autoencoder: Autoencoder) -> dict[str, Any]:
    """Keyword arguments that build this autoencoder again, around its bottleneck."""
    encoder, decoder = autoencoder.encoder.layers, autoencoder.decoder.layers
    fold, first, middle = encoder[0], encoder[1], decoder[1]
    assert isinstance(fold, nn.PixelUnshuffle) and isinstance(first, nn.Conv2d)
    assert isinstance(middle, nn.Sequential)
    patch, channels = fold.downscale_factor, first.out_channels
    levels = _decoder_levels(decoder)
    blocks = [[part for part in level if isinstance(part, ResBlock)] for level in levels]
    return {
        "image_channels": autoencoder.image_channels,
        "channels": channels,
        "channel_mult": [level[0].norm2.num_channels // channels for level in blocks],
        "num_res_blocks": len(blocks[0]) - 1,
        "attention_factors": [
            patch * 2**number
            for number, level in enumerate(levels)
            if any(isinstance(part, SpatialSelfAttention) for part in level)
        ],
        "middle_attention": len(middle) == 3,
        "patch": patch,
    }


def bottleneck_options(bottleneck: Bottleneck) -> dict[str, Any]:
    """Keyword arguments that build this bottleneck again.

    Raises:
        TypeError: It is neither Gaussian nor a codebook.
    """
    options = {
        "latent_channels": bottleneck.latent_channels,
        "inner_channels": bottleneck.inner_channels,
        "weight": bottleneck.weight,
    }
    if isinstance(bottleneck, VQ):
        return options | {
            "num_codes": bottleneck.codes.num_embeddings,
            "commitment_weight": bottleneck.commitment_weight,
            "codebook_weight": bottleneck.codebook_weight,
        }
    if isinstance(bottleneck, KL):
        return options
    raise TypeError(f"{type(bottleneck).__name__} is no bottleneck that can be described")


def conditioner_options(conditioner: Conditioner) -> dict[str, Any]:
    """Keyword arguments that build this conditioner again; none for an unconditional one."""
    match conditioner:
        case ClassConditioner():
            return {
                "num_classes": conditioner.num_classes,
                "dim": conditioner.token_dim,
                "pooled": conditioner.vector_dim is not None,
                "null_class": conditioner.null_class,
            }
        case MaskConditioner():
            mapped = list(conditioner.proj.parameters())
            return {
                "num_labels": conditioner.num_labels,
                "factor": conditioner.factor,
                "map_channels": conditioner.map_channels if mapped else None,
                "bias": len(mapped) == 2,
            }
        case TextConditioner():
            transformer = conditioner.transformer
            attention: Any = [block.attention for block in transformer.blocks]
            heads = attention[0].num_heads if attention else 1
            return {
                "vocabulary": list(conditioner.tokenizer.vocabulary),
                "max_length": transformer.positions.num_embeddings,
                "dim": transformer.tokens.embedding_dim,
                "depth": len(transformer.blocks),
                "num_heads": heads,
                "head_dim": attention[0].q.out_features // heads if attention else 1,
                "pooled": conditioner.vector_dim is not None,
            }
        case _:
            return {}


_ATTENTIONS = (SpatialSelfAttention, SpatialTransformer)


def _head_channels(attention: nn.Module) -> int:
    inside: Any = attention
    layer = inside.proj_in if isinstance(attention, SpatialTransformer) else inside.qkv
    return layer.in_features // heads_of(attention)


def _width(stages: Iterable[Stage]) -> int:
    block = next(iter(stages)).block
    assert block is not None
    return block.norm2.num_channels


def _decoder_levels(layers: nn.Sequential) -> list[list[nn.Module]]:
    levels: list[list[nn.Module]] = [[]]
    for part in list(layers)[2:]:
        if isinstance(part, Upsample):
            levels.append([])
        else:
            levels[-1].append(part)
    return levels[::-1]
