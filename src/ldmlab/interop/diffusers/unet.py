"""The U-Net as diffusers' UNet2DModel or, where it attends to tokens, UNet2DConditionModel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ldmlab.core.errors import UserError
from ldmlab.interop.common.introspect import heads_of, norm_groups, unet_levels, unet_options
from ldmlab.interop.common.key_map import Layer, renamed
from ldmlab.interop.common.shared_layers import TRANSFORMER_BLOCK
from ldmlab.nn.attention import SpatialSelfAttention, SpatialTransformer
from ldmlab.nn.blocks import ResBlock
from ldmlab.nn.unet import Stage, UNet

_BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "embedding": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
}


def unet_config(unet: UNet) -> dict[str, Any]:
    """The configuration of diffusers' U-Net of the same function.

    Raises:
        UserError: An option has no counterpart there.
    """
    options, groups = unet_options(unet), norm_groups(unet)
    widths = [mult * options["channels"] for mult in options["channel_mult"]]
    attends = [2**level in options["attention_factors"] for level in range(len(widths))]
    if len(groups) > 1:
        _refuse(f"channels={options['channels']}", "norms of one number of groups: multiples of 32")
    if options["num_res_blocks"] == 0:
        _refuse("num_res_blocks=0", "at least one residual block a level")
    shared = {
        "in_channels": options["in_channels"],
        "out_channels": options["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": options["num_res_blocks"],
        "dropout": options["dropout"],
        "norm_num_groups": groups.pop(),
        "resnet_time_scale_shift": "scale_shift" if options["scale_shift"] else "default",
    }
    if unet.token_dim is None:
        return _plain_config(unet, options, attends) | shared
    return _token_config(options, widths, attends) | shared


def _plain_config(unet: UNet, options: Mapping[str, Any], attends: list[bool]) -> dict[str, Any]:
    if options["vector_dim"] is not None:
        _refuse("vector_dim", "a vector only beside tokens")
    head_channels = options["head_channels"]
    # Without a number, diffusers makes one head of every width.
    if head_channels is None and options["num_heads"] > 1:
        found = {_head_channels(part) for part in _attentions(unet)}
        if len(found) > 1:
            _refuse(f"num_heads={options['num_heads']}", "heads of one width: head_channels")
        head_channels = found.pop()
    blocks = options["resample_blocks"]
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    if not blocks:
        plain = ("DownBlock2D", "UpBlock2D")
    return {
        "down_block_types": _types(attends, "AttnDownBlock2D", plain[0]),
        "up_block_types": _types(attends, "AttnUpBlock2D", plain[1])[::-1],
        "attention_head_dim": head_channels,
        # Without this, scaled and shifted blocks leave the middle's attention without a norm.
        "attn_norm_num_groups": next(iter(norm_groups(unet))) if options["scale_shift"] else None,
        "downsample_type": "resnet" if blocks else "conv",
        "upsample_type": "resnet" if blocks else "conv",
    }


def _token_config(
    options: Mapping[str, Any], widths: list[int], attends: list[bool]
) -> dict[str, Any]:
    if options["resample_blocks"]:
        _refuse("resample_blocks=true", "convolutions between the levels")
    heads, head_channels = options["num_heads"], options["head_channels"]
    config = {
        "down_block_types": _types(attends, "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": _types(attends, "CrossAttnUpBlock2D", "UpBlock2D")[::-1],
        "cross_attention_dim": options["token_dim"],
        "transformer_layers_per_block": options["transformer_depth"],
        # The name is diffusers' mistake: it holds numbers of heads.
        "attention_head_dim": heads or [max(1, width // head_channels) for width in widths],
    }
    if options["vector_dim"] is not None:
        config["class_embed_type"] = "simple_projection"
        config["projection_class_embeddings_input_dim"] = options["vector_dim"]
    return config


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of our U-Net for a configuration of diffusers.

    What has no counterpart is left out: compare `unet_config` of the result with `config`.
    """
    widths = list(config["block_out_channels"])
    types = config["down_block_types"]
    token_dim = config.get("cross_attention_dim")
    heads = config["attention_head_dim"]
    num_heads, head_channels = None, heads
    if token_dim is not None:
        several = heads if isinstance(heads, list | tuple) else [heads] * len(widths)
        num_heads = several[0] if len(set(several)) == 1 else None
        head_channels = None if num_heads else widths[0] // several[0]
    elif heads is None:
        num_heads = 1
    projected = config.get("class_embed_type") == "simple_projection"
    return {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "token_dim": token_dim,
        "vector_dim": config["projection_class_embeddings_input_dim"] if projected else None,
        "channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attention_factors": [2**level for level, name in enumerate(types) if "Attn" in name],
        "num_heads": num_heads,
        "head_channels": head_channels,
        "transformer_depth": config.get("transformer_layers_per_block", 1),
        "dropout": config["dropout"],
        "scale_shift": config["resnet_time_scale_shift"] == "scale_shift",
        "resample_blocks": config.get("downsample_type") == "resnet",
    }


def unet_layers(unet: UNet) -> Iterator[Layer]:
    """Our layers and theirs: levels of blocks, the way up counted from the coarsest."""
    yield from renamed({"conv_in": "conv_in"})
    yield from renamed({"time_embedding.mlp.0": "time_embedding.linear_1"})
    yield from renamed({"time_embedding.mlp.2": "time_embedding.linear_2"})
    if unet.vector_dim is not None:
        yield from renamed({"vector_embedding": "class_embedding"})
    level, number = 0, 0
    for i, stage in enumerate(unet.down):
        assert isinstance(stage, Stage)
        yield from _stage_layers(stage, f"down.{i}", f"down_blocks.{level}", number)
        if stage.resample is not None:
            level, number = level + 1, 0
        else:
            number += 1
    for i, stage in enumerate(unet.middle):
        assert isinstance(stage, Stage)
        yield from _stage_layers(stage, f"middle.{i}", "mid_block", i)
    first = 0
    for level, stages in enumerate(reversed(unet_levels(unet))):
        for number, stage in enumerate(stages):
            ours = f"up.{first + number}"
            yield from _stage_layers(stage, ours, f"up_blocks.{level}", number)
        first += len(stages)
    yield from renamed({"norm_out": "conv_norm_out", "conv_out": "conv_out"})


def block_layers(block: ResBlock) -> Iterator[Layer]:
    """A residual block of either network."""
    names = dict(_BLOCK)
    if not hasattr(block, "embedding"):
        del names["embedding"]
    yield from renamed(names)
    if not isinstance(block.skip, nn.Identity):
        yield from renamed({"skip": "conv_shortcut"})


def self_attention_layers() -> Iterator[Layer]:
    """Self-attention over pixels, of either network."""
    yield from renamed({"norm": "group_norm"})
    yield Layer("qkv", ("to_q", "to_k", "to_v"))
    yield from renamed({"out": "to_out.0"})


def _stage_layers(stage: Stage, ours: str, theirs: str, number: int) -> Iterator[Layer]:
    if stage.block is not None:
        for layer in block_layers(stage.block):
            yield layer.under(f"{ours}.block", f"{theirs}.resnets.{number}")
    if stage.attention is not None:
        for layer in _attention_layers(stage.attention):
            yield layer.under(f"{ours}.attention", f"{theirs}.attentions.{number}")
    if stage.resample is not None:
        way = "downsamplers" if ours.startswith("down") else "upsamplers"
        for layer in _resample_layers(stage.resample):
            yield layer.under(f"{ours}.resample", f"{theirs}.{way}.0")


def _resample_layers(resample: nn.Module) -> Iterator[Layer]:
    if isinstance(resample, ResBlock):
        return block_layers(resample)
    return renamed({"conv": "conv"})


def _attention_layers(attention: SpatialSelfAttention | SpatialTransformer) -> Iterator[Layer]:
    if isinstance(attention, SpatialSelfAttention):
        return self_attention_layers()
    return _transformer_layers(attention)


def _transformer_layers(attention: SpatialTransformer) -> Iterator[Layer]:
    yield from renamed({"norm": "norm"})
    yield from renamed({"proj_in": "proj_in"}, kernel_axes=2)
    for i in range(len(attention.blocks)):
        for layer in renamed(TRANSFORMER_BLOCK):
            yield layer.under(f"blocks.{i}", f"transformer_blocks.{i}")
    yield from renamed({"proj_out": "proj_out"}, kernel_axes=2)


def _attentions(unet: UNet) -> list[SpatialSelfAttention]:
    return [part for part in unet.modules() if isinstance(part, SpatialSelfAttention)]


def _head_channels(attention: SpatialSelfAttention) -> int:
    return attention.qkv.in_features // heads_of(attention)


def _types(attends: list[bool], attending: str, plain: str) -> list[str]:
    return [attending if attend else plain for attend in attends]


def _refuse(option: str, only: str) -> None:
    raise UserError(f"network.{option} has no counterpart in diffusers, whose U-Net has {only}")
