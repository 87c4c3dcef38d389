"""Published models of a few thousand weights, as their YAML and their state dict."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldmlab.conditioning.vocabulary_making import build_vocabulary
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.compvis.autoencoder import build_autoencoder
from ldmlab.interop.compvis.conditioner import build_conditioner
from ldmlab.interop.compvis.unet import build_unet

WORDS = build_vocabulary(["a red house on the left", "dark hills"])
KINDS = ("none", "class", "mask", "text")

_HALVES = {
    "double_z": True,
    "z_channels": 2,
    "resolution": 32,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [16],
}
KL = {"embed_dim": 2, "ddconfig": _HALVES}
VQ = {"embed_dim": 2, "n_embed": 7, "ddconfig": _HALVES | {"double_z": False, "z_channels": 3}}
UNET = {
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
    "num_head_channels": 16,
}
TOKENS_UNET = UNET | {"use_spatial_transformer": True, "context_dim": 8, "transformer_depth": 2}
_ENCODERS = "ldm.modules.encoders.modules"
CONDITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "class": ("ClassEmbedder", {"n_classes": 21, "embed_dim": 8, "key": "class_label"}),
    "mask": ("SpatialRescaler", {"n_stages": 1, "in_channels": 4, "out_channels": 3}),
    "text": (
        "BERTEmbedder",
        {"n_embed": 8, "n_layer": 2, "vocab_size": len(WORDS), "max_seq_len": 9, "dim_head": 4},
    ),
}


def published(kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The YAML and the state dict of a tiny model: `none`, `class`, `mask` or `text`."""
    tokens = kind in ("class", "text")
    unet = (TOKENS_UNET if tokens else UNET) | {"in_channels": 5 if kind == "mask" else 2}
    stage, name = (VQ, "VQModelInterface") if kind in ("class", "mask") else (KL, "AutoencoderKL")
    state = drawn(compvis.unet_to_compvis(build_unet(unet)), "model.diffusion_model.")
    state |= drawn(compvis.autoencoder_to_compvis(build_autoencoder(stage)), "first_stage_model.")
    params: dict[str, Any] = {
        "linear_start": 0.0015,
        "linear_end": 0.0195,
        "timesteps": 1000,
        "image_size": 16,
        "channels": 2,
        "loss_type": "l1" if kind == "mask" else "l2",
        "conditioning_key": "crossattn" if tokens else "concat" if kind == "mask" else None,
        "unet_config": {"target": "openaimodel.UNetModel", "params": unet},
        "first_stage_config": {"target": f"ldm.models.autoencoder.{name}", "params": stage},
        "cond_stage_config": "__is_unconditional__",
    }
    if kind == "none":
        params["scale_by_std"] = True
        state["scale_factor"] = torch.tensor(0.18215)
    if kind in CONDITIONS:
        target, options = CONDITIONS[kind]
        params["cond_stage_config"] = {"target": f"{_ENCODERS}.{target}", "params": options}
        conditioner = build_conditioner(target, options, None)
        prefix = "cond_stage_model."
        state |= drawn(compvis.conditioner_to_compvis(target, conditioner), prefix)
    if kind == "text":
        head = {"weight": torch.zeros(len(WORDS), 8), "bias": torch.zeros(len(WORDS))}
        state |= {f"cond_stage_model.transformer.to_logits.{k}": v for k, v in head.items()}
    model = {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}
    return {"model": model}, state


def drawn(shapes: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights under which every layer matters and nothing explodes."""
    generator = torch.Generator().manual_seed(len(shapes))
    state = {}
    for key, value in shapes.items():
        fan_in = max(1, value[0].numel()) if value.ndim > 1 else 25
        drawn = torch.randn(value.shape, generator=generator) / fan_in**0.5
        norm = value.ndim == 1 and key.endswith("weight")
        state[prefix + key] = drawn + 1 if norm else drawn
    return state
