"""The autoencoder as diffusers' AutoencoderKL or VQModel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL, VQ
from ldmlab.core.errors import UserError
from ldmlab.interop.common import shared_layers
from ldmlab.interop.common.introspect import autoencoder_options, norm_groups
from ldmlab.interop.common.key_map import Layer, renamed
from ldmlab.interop.diffusers.unet import block_layers, self_attention_layers
from ldmlab.nn.attention import SpatialSelfAttention
from ldmlab.nn.autoencoder import Decoder, Encoder
from ldmlab.nn.blocks import Downsample, ResBlock, Upsample


def autoencoder_config(autoencoder: Autoencoder) -> dict[str, Any]:
    """The configuration of diffusers' autoencoder of the same function.

    Raises:
        UserError: An option has no counterpart there.
    """
    options, bottleneck = autoencoder_options(autoencoder), autoencoder.bottleneck
    groups = norm_groups(autoencoder)
    if options["patch"] != 1:
        _refuse(f"autoencoder.patch={options['patch']}", "only patch=1 has")
    if options["num_res_blocks"] == 0:
        _refuse("autoencoder.num_res_blocks=0", "only at least one block a level has")
    if len(groups) > 1:
        _refuse(f"autoencoder.channels={options['channels']}", "multiples of 32 have")
    widths = [mult * options["channels"] for mult in options["channel_mult"]]
    attends = [2**level in options["attention_factors"] for level in range(len(widths))]
    down = ["AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends]
    up = ["AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in attends]
    config = {
        "in_channels": options["image_channels"],
        "out_channels": options["image_channels"],
        "down_block_types": down,
        "up_block_types": up[::-1],
        "block_out_channels": widths,
        "layers_per_block": options["num_res_blocks"],
        "latent_channels": bottleneck.inner_channels,
        "norm_num_groups": groups.pop(),
        "mid_block_add_attention": options["middle_attention"],
    }
    if isinstance(bottleneck, VQ):
        return config | {
            "num_vq_embeddings": bottleneck.codes.num_embeddings,
            "vq_embed_dim": bottleneck.latent_channels,
        }
    if bottleneck.inner_channels != bottleneck.latent_channels:
        option = f"bottleneck.inner_channels={bottleneck.inner_channels}"
        _refuse(option, f"only {bottleneck.latent_channels}, as many as latent_channels, has")
    return config


def build_autoencoder(config: Mapping[str, Any]) -> Autoencoder:
    """Our autoencoder for a configuration of diffusers, with random weights.

    What has no counterpart is left out: compare `autoencoder_config` of the result.
    """
    inner = config["latent_channels"]
    if "num_vq_embeddings" in config:
        latent = config["vq_embed_dim"] or inner
        bottleneck: KL | VQ = VQ(latent, config["num_vq_embeddings"], inner_channels=inner)
    else:
        bottleneck = KL(inner)
    widths = list(config["block_out_channels"])
    types = config["down_block_types"]
    return Autoencoder(
        bottleneck,
        image_channels=config["in_channels"],
        channels=widths[0],
        channel_mult=[width // widths[0] for width in widths],
        num_res_blocks=config["layers_per_block"],
        attention_factors=[2**level for level, name in enumerate(types) if "Attn" in name],
        middle_attention=config["mid_block_add_attention"],
    )


def autoencoder_layers(autoencoder: Autoencoder) -> Iterator[Layer]:
    """Our layers, in two sequences, and theirs, by level in the order of their use."""
    return shared_layers.autoencoder_layers(autoencoder, _half_layers)


def _half_layers(half: Encoder | Decoder, way: str) -> Iterator[Layer]:
    level, blocks, attentions = 0, 0, 0
    for position, part in enumerate(half.layers):
        ours = f"layers.{position}"
        if isinstance(part, nn.Conv2d):
            yield from renamed({ours: "conv_in"})
        elif isinstance(part, nn.Sequential):
            middle = ["resnets.0", "attentions.0", "resnets.1"]
            for i, name in enumerate(middle if len(part) == 3 else middle[::2]):
                for layer in _part_layers(part[i]):
                    yield layer.under(f"{ours}.{i}", f"mid_block.{name}")
        elif isinstance(part, Downsample | Upsample):
            theirs = f"{way}_blocks.{level}.{way}samplers.0.conv"
            yield from renamed({f"{ours}.conv": theirs})
            level, blocks, attentions = level + 1, 0, 0
        elif isinstance(part, ResBlock | SpatialSelfAttention):
            block = isinstance(part, ResBlock)
            name = f"resnets.{blocks}" if block else f"attentions.{attentions}"
            for layer in _part_layers(part):
                yield layer.under(ours, f"{way}_blocks.{level}.{name}")
            blocks, attentions = blocks + block, attentions + (not block)
    yield from renamed({"norm_out": "conv_norm_out", "conv_out": "conv_out"})


def _part_layers(part: nn.Module) -> Iterator[Layer]:
    return block_layers(part) if isinstance(part, ResBlock) else self_attention_layers()


def _refuse(option: str, only: str) -> None:
    raise UserError(f"{option} has no counterpart in diffusers: {only} one")
