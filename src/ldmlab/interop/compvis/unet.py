"""The U-Net under its CompVis options and names (Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.interop.common.key_map import Layer, Renaming, State, renamed
from ldmlab.interop.common.shared_layers import TRANSFORMER_BLOCK
from ldmlab.interop.compvis.checkpoint import UNET, load_section
from ldmlab.interop.compvis.options import Options, need, only
from ldmlab.nn.attention import SpatialSelfAttention, SpatialTransformer
from ldmlab.nn.blocks import Downsample, ResBlock
from ldmlab.nn.unet import UNet

_UNREAD = {
    "dims": 2,
    "conv_resample": True,
    "num_classes": None,
    "use_new_attention_order": False,
    "num_heads_upsample": -1,
    "n_embed": None,
}
_START = {
    "time_embedding.mlp.0": "time_embed.0",
    "time_embedding.mlp.2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
}
_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "embedding": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
}


def build_unet(params: Options) -> UNet:
    """Our U-Net for the options of `openaimodel.UNetModel`, on `meta`.

    Raises:
        UserError: An option is missing or has no counterpart here.
    """
    where = "unet_config"
    only(params, where, _UNREAD)
    head_channels = params.get("num_head_channels", -1)
    heads = params.get("num_heads", -1)
    if heads == -1 and head_channels == -1:
        raise UserError(f"{where} of the CompVis configuration lacks num_heads")
    attends = bool(params.get("use_spatial_transformer", False))
    with torch.device("meta"):
        return UNet(
            in_channels=need(params, "in_channels", where),
            out_channels=need(params, "out_channels", where),
            token_dim=need(params, "context_dim", where) if attends else None,
            channels=need(params, "model_channels", where),
            channel_mult=tuple(params.get("channel_mult", (1, 2, 4, 8))),
            num_res_blocks=need(params, "num_res_blocks", where),
            attention_factors=tuple(need(params, "attention_resolutions", where)),
            num_heads=heads if head_channels == -1 else None,
            head_channels=None if head_channels == -1 else head_channels,
            transformer_depth=params.get("transformer_depth", 1),
            dropout=params.get("dropout", 0.0),
            scale_shift=params.get("use_scale_shift_norm", False),
            resample_blocks=params.get("resblock_updown", False),
        )


def unet_layers(unet: UNet) -> Iterator[Layer]:
    """Our layers and theirs: `down` and `up` are `input_blocks` and `output_blocks`."""
    yield from renamed(_START)
    # A published block numbers the parts that it has.
    numbered = [
        *((f"down.{i}", f"input_blocks.{i + 1}", 0) for i in range(len(unet.down))),
        ("middle.0", "middle_block", 0),
        ("middle.1", "middle_block", 2),
        *((f"up.{i}", f"output_blocks.{i}", 0) for i in range(len(unet.up))),
    ]
    for ours, theirs, first in numbered:
        parts = unet.get_submodule(ours).named_children()
        for number, (name, part) in enumerate(parts, start=first):
            for layer in _part_layers(part):
                yield layer.under(f"{ours}.{name}", f"{theirs}.{number}")
    yield from renamed({"norm_out": "out.0", "conv_out": "out.2"})


def _part_layers(part: nn.Module) -> Iterator[Layer]:
    if isinstance(part, ResBlock):
        yield from renamed(_BLOCK)
        if not isinstance(part.skip, nn.Identity):
            yield from renamed({"skip": "skip_connection"})
    elif isinstance(part, SpatialSelfAttention):
        yield from renamed({"norm": "norm"})
        yield Layer("qkv", ("qkv",), kernel_axes=1, heads=part.num_heads)
        yield from renamed({"out": "proj_out"}, kernel_axes=1)
    elif isinstance(part, SpatialTransformer):
        yield from renamed({"norm": "norm"})
        yield from renamed({"proj_in": "proj_in"}, kernel_axes=2)
        for i in range(len(part.blocks)):
            for layer in renamed(TRANSFORMER_BLOCK):
                yield layer.under(f"blocks.{i}", f"transformer_blocks.{i}")
        yield from renamed({"proj_out": "proj_out"}, kernel_axes=2)
    else:
        yield from renamed({"conv": "op" if isinstance(part, Downsample) else "conv"})


def load_unet(params: Options, state_dict: State) -> UNet:
    """The published U-Net.

    Args:
        params: `unet_config.params`.
        state_dict: The published tensors, under `model.diffusion_model.` or no prefix. Averaged
            weights (`model_ema.`) are taken where there are any. Tensors on `meta` give a
            module on `meta`.

    Raises:
        UserError: An option has no counterpart, or the tensors are not those of `params`.
    """
    unet = build_unet(params)
    load_section(Renaming(unet, unet_layers(unet)), state_dict, UNET)
    return unet


def unet_to_compvis(unet: UNet) -> dict[str, Tensor]:
    """Copies of a U-Net's weights under their published names, without a prefix."""
    return Renaming(unet, unet_layers(unet)).published()
