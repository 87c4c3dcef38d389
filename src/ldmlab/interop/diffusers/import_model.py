"""A folder in the layout of a diffusers pipeline as a model; code in the folder is not run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldmlab.autoencoding.codec import Codec, IdentityCodec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.none import Unconditional
from ldmlab.core.errors import UserError
from ldmlab.core.image_size import ImageSize, any_image_size, height_and_width, plain_size
from ldmlab.core.pixel_values import as_value_range
from ldmlab.interop.common.imported import Imported
from ldmlab.interop.common.introspect import unet_options
from ldmlab.interop.common.key_map import Renaming
from ldmlab.interop.common.to_config import leaves_of, spec_of
from ldmlab.interop.diffusers.autoencoder import (
    autoencoder_config,
    autoencoder_layers,
    build_autoencoder,
)
from ldmlab.interop.diffusers.bert import read_bert
from ldmlab.interop.diffusers.conditioner import KINDS, conditioner_layers
from ldmlab.interop.diffusers.pipeline import diffusers
from ldmlab.interop.diffusers.scheduler import process_of, sampler_leaf
from ldmlab.interop.diffusers.unet import options_of, unet_config, unet_layers
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.unet import UNet

_SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
)
_READ = {
    "unet": ("UNet2DModel", "UNet2DConditionModel"),
    "vae": ("AutoencoderKL", "VQModel"),
    "vqvae": ("AutoencoderKL", "VQModel"),
    "scheduler": _SCHEDULERS,
    "conditioner": tuple(KINDS),
    "bert": ("LDMBertModel",),
    "tokenizer": ("BertTokenizer", "BertTokenizerFast"),
}
# Said elsewhere, or of no meaning for the function of a network.
_PASSED = (
    *("sample_size", "scaling_factor", "shift_factor", "latents_mean", "latents_std"),
    *("force_upcast", "attention_head_dim", "dropout"),
    *("vq_embed_dim", "attn_norm_num_groups"),
)


def import_pipeline(folder: Path) -> Imported:
    """The model in a folder that a pipeline of diffusers was saved to.

    Raises:
        UserError: A file is missing or damaged, or a part has no counterpart here.
    """
    index = _read_index(folder)
    unet, size = _unet(folder, index)
    codec = _codec(folder, index, unet_options(unet)["out_channels"])
    conditioner = _conditioner(folder, index)
    maps = unet.conv_in.in_channels - codec.latent_channels
    if (conditioner.map_channels, conditioner.token_dim) != (maps, unet.token_dim):
        raise UserError(
            f"{folder / 'unet'} takes {maps} map channels and tokens of width {unet.token_dim}; "
            f"the conditioner gives {conditioner.map_channels} and {conditioner.token_dim}"
        )
    scheduler = _load(folder, "scheduler", index).config
    network = ConditionalNetwork(unet, conditioner)
    model = LatentDiffusion(codec, network, process_of(scheduler), condition_dropout=0.0)
    leaves = leaves_of(model) | {"sampler": sampler_leaf(scheduler)}
    height, width = (side * codec.factor for side in height_and_width(size))
    spec = spec_of(codec, conditioner, (height, width))
    if known := index.get("values"):
        try:
            pairs = as_value_range(known["value_range"])
            spec = replace(spec, bits=known["bits"], value_range=pairs)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{folder / 'model_index.json'}: its values are damaged") from error
    return Imported(model, leaves, spec)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: is {folder} a pipeline's folder?") from error
    if not isinstance(index, dict):
        raise UserError(f"{path} holds no table of components")
    for name, entry in index.items():
        if name.startswith("_") or not isinstance(entry, list) or entry == [None, None]:
            continue
        kind = entry[-1] if entry else None
        if kind not in _READ.get(name, ()):
            raise UserError(f"{path} has {name}={kind}, which has no counterpart here")
    for name in ("unet", "scheduler"):
        if not isinstance(index.get(name), list) or index[name] == [None, None]:
            raise UserError(f"{path} lacks {name}")
    return index


def _load(folder: Path, name: str, index: Mapping[str, Any]) -> Any:
    """A component, by a class of diffusers or of ours, every tensor found."""
    from ldmlab.interop.diffusers.exported import conditioner as exported

    kind = getattr(exported if name == "conditioner" else diffusers(), index[name][-1])
    where = folder / name
    options: dict[str, Any] = {"local_files_only": True}
    network = issubclass(kind, nn.Module)
    if network:
        options |= {"low_cpu_mem_usage": False, "output_loading_info": True}
    try:
        loaded = kind.from_pretrained(str(where), **options)
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise UserError(f"{where} cannot be loaded: {words}") from error
    if not network:
        return loaded
    theirs, report = loaded
    for fault in ("missing_keys", "unexpected_keys"):
        if names := report.get(fault):
            shown = ", ".join(sorted(names)[:3])
            raise UserError(f"{where}: {len(names)} {fault.replace('_', ' ')} ({shown})")
    return theirs


def _unet(folder: Path, index: Mapping[str, Any]) -> tuple[UNet, ImageSize]:
    theirs = _load(folder, "unet", index)
    where = folder / "unet" / "config.json"
    size = theirs.config.sample_size
    if not any_image_size.holds(size):
        raise UserError(f"{where} has sample_size={size}: a number is needed, or two of them")
    try:
        with torch.device("meta"):
            ours = UNet(**options_of(theirs.config))
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"{where} describes a network without a counterpart here") from error
    _check(theirs, unet_config(ours), where)
    Renaming(ours, unet_layers(ours)).load(theirs.state_dict())
    return ours, plain_size(size)


def _codec(folder: Path, index: Mapping[str, Any], channels: int) -> Codec:
    present = [name for name in ("vae", "vqvae") if index.get(name) not in (None, [None, None])]
    if not present:
        return IdentityCodec(channels)
    theirs = _load(folder, present[0], index)
    config, where = theirs.config, folder / present[0] / "config.json"
    try:
        with torch.device("meta"):
            ours = build_autoencoder(config)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"{where} describes a network without a counterpart here") from error
    _check(theirs, autoencoder_config(ours), where)
    Renaming(ours, autoencoder_layers(ours)).load(theirs.state_dict())
    codec = NormalizedCodec(ours)
    scale = torch.tensor(1 / config.scaling_factor)
    shift = torch.tensor(config.get("shift_factor") or 0.0)
    known = index.get("normalization") or {
        "mean": config.get("latents_mean"),
        "std": config.get("latents_std"),
    }
    if known["mean"] is not None:
        scale = torch.tensor(known["std"])[:, None, None] * scale
        shift = torch.tensor(known["mean"])[:, None, None]
    codec.scale.copy_(scale.expand_as(codec.scale))
    codec.shift.copy_(shift.expand_as(codec.shift))
    return codec


def _conditioner(folder: Path, index: Mapping[str, Any]) -> Conditioner:
    if index.get("bert") not in (None, [None, None]):
        return read_bert(folder)
    if index.get("conditioner") in (None, [None, None]):
        return Unconditional()
    theirs = _load(folder, "conditioner", index)
    options = {key: value for key, value in theirs.config.items() if not key.startswith("_")}
    ours: Any = KINDS[type(theirs).__name__](**options)
    Renaming(ours, conditioner_layers(ours)).load(theirs.state_dict())
    return ours


def _check(theirs: Any, described: Mapping[str, Any], where: Path) -> None:
    """Make sure that our network is theirs in every option that they have."""
    with torch.device("meta"):
        ours = type(theirs)(**described)
    for key, value in ours.config.items():
        found = theirs.config.get(key)
        if key in _PASSED or key.startswith("_"):
            continue
        if _comparable(found) != _comparable(value):
            raise UserError(f"{where} has {key}={found}, which has no counterpart here")
    if _facts(ours) != _facts(theirs):
        raise UserError(f"{where} describes heads, norms or drop-out without a counterpart here")


def _comparable(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _facts(network: nn.Module) -> dict[str, Any]:
    """What no shape of a weight tells."""
    found: dict[str, Any] = {}
    for name, part in network.named_modules():
        for fact in ("heads", "num_groups", "eps", "p"):
            if hasattr(part, fact):
                found[f"{name}.{fact}"] = getattr(part, fact)
    return found
