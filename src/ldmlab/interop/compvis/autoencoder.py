"""The autoencoder under its CompVis options and names (Esser et al. 2021, Rombach et al. 2022)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL, VQ, Bottleneck
from ldmlab.core.errors import UserError
from ldmlab.interop.common import shared_layers
from ldmlab.interop.common.key_map import Layer, Renaming, State, renamed
from ldmlab.interop.compvis.checkpoint import FIRST_STAGE, load_section
from ldmlab.interop.compvis.options import Options, need, only
from ldmlab.nn.attention import SpatialSelfAttention
from ldmlab.nn.autoencoder import Decoder, Encoder
from ldmlab.nn.blocks import Downsample, ResBlock, Upsample

_UNREAD = {
    "dropout": 0.0,
    "resamp_with_conv": True,
    "use_linear_attn": False,
    "give_pre_end": False,
    "tanh_out": False,
}
_BLOCK = {name: name for name in ("norm1", "conv1", "norm2", "conv2")}


def build_autoencoder(params: Options) -> Autoencoder:
    """Our autoencoder for the options of `AutoencoderKL` or `VQModel`, on `meta`.

    Raises:
        UserError: An option is missing or has no counterpart here.
    """
    where = "ddconfig"
    halves = need(params, where, "first_stage_config")
    attention = halves.get("attn_type", "vanilla")
    images = need(halves, "in_channels", where)
    only(halves, where, _UNREAD | {"out_ch": images})
    if attention not in ("vanilla", "none"):
        raise UserError(f"{where} has attn_type={attention}: only vanilla and none can be read")
    mult = tuple(need(halves, "ch_mult", where))
    resolution = need(halves, "resolution", where)
    sizes = [resolution // 2**level for level in range(len(mult))]
    attended = need(halves, "attn_resolutions", where)
    attending = [2**i for i, size in enumerate(sizes) if size in attended]
    with torch.device("meta"):
        return Autoencoder(
            _bottleneck(params, halves),
            image_channels=images,
            channels=need(halves, "ch", where),
            channel_mult=mult,
            num_res_blocks=need(halves, "num_res_blocks", where),
            attention_factors=attending if attention == "vanilla" else (),
            middle_attention=attention == "vanilla",
        )


def _bottleneck(params: Options, halves: Options) -> Bottleneck:
    latent_channels = need(params, "embed_dim", "first_stage_config")
    inner_channels = need(halves, "z_channels", "ddconfig")
    codes = params.get("n_embed")
    only(halves, "ddconfig", {"double_z": codes is None})
    if codes is None:
        return KL(latent_channels, inner_channels=inner_channels)
    beta, exchanged = params.get("beta", 0.25), params.get("legacy_beta", True)
    return VQ(
        latent_channels,
        codes,
        commitment_weight=1.0 if exchanged else beta,
        codebook_weight=beta if exchanged else 1.0,
        inner_channels=inner_channels,
    )


def autoencoder_layers(autoencoder: Autoencoder) -> Iterator[Layer]:
    """Our layers, in two sequences, and theirs, by level; theirs count from the finest."""
    return shared_layers.autoencoder_layers(autoencoder, _half_layers)


def _half_layers(half: Encoder | Decoder, way: str) -> Iterator[Layer]:
    resamples = sum(isinstance(part, Downsample | Upsample) for part in half.layers)
    level = 0 if way == "down" else resamples
    seen: Counter[str] = Counter()
    for number, part in enumerate(half.layers):
        ours = f"layers.{number}"
        if isinstance(part, nn.Conv2d):
            yield from renamed({ours: "conv_in"})
        elif isinstance(part, nn.Sequential):
            middle = ("block_1", "attn_1", "block_2") if len(part) == 3 else ("block_1", "block_2")
            for i, name in enumerate(middle):
                for layer in _part_layers(part[i]):
                    yield layer.under(f"{ours}.{i}", f"mid.{name}")
        elif isinstance(part, Downsample | Upsample):
            yield from renamed({f"{ours}.conv": f"{way}.{level}.{way}sample.conv"})
            level += 1 if way == "down" else -1
            seen.clear()
        elif isinstance(part, ResBlock | SpatialSelfAttention):
            kind = "block" if isinstance(part, ResBlock) else "attn"
            for layer in _part_layers(part):
                yield layer.under(ours, f"{way}.{level}.{kind}.{seen[kind]}")
            seen[kind] += 1
    yield from renamed({"norm_out": "norm_out", "conv_out": "conv_out"})


def _part_layers(part: nn.Module) -> Iterator[Layer]:
    if isinstance(part, ResBlock):
        yield from renamed(_BLOCK)
        if not isinstance(part.skip, nn.Identity):
            yield from renamed({"skip": "nin_shortcut"})
    else:
        yield from renamed({"norm": "norm"})
        yield Layer("qkv", ("q", "k", "v"), kernel_axes=2)
        yield from renamed({"out": "proj_out"}, kernel_axes=2)


def load_autoencoder(params: Options, state_dict: State) -> Autoencoder:
    """The published first stage: with a KL bottleneck, or a codebook where `n_embed` is given.

    Args:
        params: `first_stage_config.params`, or `model.params` of an autoencoder's configuration.
        state_dict: The published tensors, under `first_stage_model.` or no prefix.

    Raises:
        UserError: An option has no counterpart, or the tensors are not those of `params`.
    """
    autoencoder = build_autoencoder(params)
    renaming = Renaming(autoencoder, autoencoder_layers(autoencoder))
    load_section(renaming, state_dict, FIRST_STAGE)
    return autoencoder


def autoencoder_to_compvis(autoencoder: Autoencoder) -> dict[str, Tensor]:
    """Copies of an autoencoder's weights under their published names, without a prefix."""
    return Renaming(autoencoder, autoencoder_layers(autoencoder)).published()
