"""Models published with CompVis' latent-diffusion: their configurations and state dicts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.codec import Codec, IdentityCodec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.given import GivenConditioner
from ldmlab.conditioning.none import Unconditional
from ldmlab.core.errors import UserError
from ldmlab.diffusion.parameterization import Eps
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.schedule import TableSchedule, cosine, linear, scaled_linear
from ldmlab.diffusion.times import Uniform
from ldmlab.diffusion.weighting import VLB, Sum, Unit
from ldmlab.interop.compvis_autoencoder import autoencoder_layers, build_autoencoder
from ldmlab.interop.compvis_checkpoint import (
    CONDITIONER,
    FIRST_STAGE,
    SCALE_FACTOR,
    UNET,
    check_section,
    load_section,
)
from ldmlab.interop.compvis_conditioner import Vocabulary, build_conditioner, kind_of
from ldmlab.interop.compvis_options import Options, need, only
from ldmlab.interop.compvis_unet import build_unet, unet_layers
from ldmlab.interop.renaming import Renaming, State
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.unet import UNet

_WHERE = "model.params"
_UNREAD = {
    "parameterization": "eps",
    "v_posterior": 0.0,
    "learn_logvar": False,
    "logvar_init": 0.0,
    "given_betas": None,
}


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


def load_conditioner(
    target: str, params: Options, state_dict: State, vocabulary: Vocabulary = None
) -> Conditioner:
    """The published conditioner.

    Args:
        target: Its class, as `cond_stage_config.target` names it.
        params: `cond_stage_config.params`.
        state_dict: The published tensors, under `cond_stage_model.` or no prefix.
        vocabulary: Tokens of a text model in order of their numbers (the lines of
            bert-base-uncased's vocab.txt), for captions; without it the conditioner takes
            token numbers.

    Raises:
        UserError: The class or an option has no counterpart, or the tensors are not those of
            `params`.
    """
    conditioner = build_conditioner(target, params, vocabulary)
    kind = kind_of(target)
    renaming = Renaming(conditioner, kind.layers(conditioner))
    load_section(renaming, state_dict, CONDITIONER, kind.unused)
    return conditioner


def load(config: Options, state_dict: State, vocabulary: Vocabulary = None) -> LatentDiffusion:
    """A published latent diffusion model.

    Args:
        config: The published YAML, its `model` section, or that section's `params`.
        state_dict: The checkpoint's `state_dict`.
        vocabulary: As for `load_conditioner`.

    Raises:
        UserError: An option has no counterpart, or the tensors are not those of `config`.
    """
    model = config.get("model", config)
    params = model.get("params", model)
    unet = load_unet(_inner(params, "unet_config"), state_dict)
    device = unet.conv_in.weight.device
    codec = _codec(params, state_dict, device)
    conditioner = _conditioner(params, state_dict, vocabulary, unet, codec)
    return LatentDiffusion(
        codec,
        ConditionalNetwork(unet, conditioner),
        _process(params),
        condition_dropout=0.0,
    )


def unet_to_compvis(unet: UNet) -> dict[str, Tensor]:
    """Copies of a U-Net's weights under their published names, without a prefix."""
    return Renaming(unet, unet_layers(unet)).published()


def autoencoder_to_compvis(autoencoder: Autoencoder) -> dict[str, Tensor]:
    """Copies of an autoencoder's weights under their published names, without a prefix."""
    return Renaming(autoencoder, autoencoder_layers(autoencoder)).published()


def conditioner_to_compvis(target: str, conditioner: Conditioner) -> dict[str, Tensor]:
    """Copies of a conditioner's weights under the names of a published class.

    A text model's unused head is not among them.

    Raises:
        UserError: The class has no counterpart here.
    """
    return Renaming(conditioner, kind_of(target).layers(conditioner)).published()


def schedule_of(params: Options) -> TableSchedule:
    """The schedule of `model.params`; what is called linear there is linear in sqrt(beta).

    Raises:
        UserError: The schedule has no counterpart here.
    """
    steps = params.get("timesteps", 1000)
    name = params.get("beta_schedule", "linear")
    if name == "cosine":
        return cosine(steps, params.get("cosine_s", 8e-3))
    makers = {"linear": scaled_linear, "sqrt_linear": linear}
    if name not in makers:
        raise UserError(f"{_WHERE} has beta_schedule={name}: use linear, sqrt_linear or cosine")
    return makers[name](steps, params.get("linear_start", 1e-4), params.get("linear_end", 2e-2))


def _inner(params: Options, key: str) -> Options:
    return need(params, key, _WHERE).get("params", {})


def _process(params: Options) -> DiffusionProcess:
    only(params, _WHERE, _UNREAD)
    schedule = schedule_of(params)
    count = len(schedule.betas)
    simple, bound = params.get("l_simple_weight", 1.0), params.get("original_elbo_weight", 0.0)
    # The published bound is not multiplied by the number of steps.
    weighting = Sum([(simple, Unit()), (bound / count, VLB(variance="beta_tilde"))])
    distance = params.get("loss_type", "l2")
    if distance not in ("l1", "l2"):
        raise UserError(f"{_WHERE} has loss_type={distance}: use l1 or l2")
    return DiffusionProcess(schedule, Eps(count), weighting, Uniform(), distance)


def _codec(params: Options, state: State, device: torch.device) -> Codec:
    options = _inner(params, "first_stage_config")
    by_std = params.get("scale_by_std", False)
    if params["first_stage_config"].get("target", "").endswith("IdentityFirstStage"):
        only(params, _WHERE, {"scale_factor": 1.0, "scale_by_std": False})
        return IdentityCodec(params.get("channels", 3))
    codec = NormalizedCodec(load_autoencoder(options, state)).to(device)
    if by_std and SCALE_FACTOR not in state:
        raise UserError(f"{_WHERE} has scale_by_std=True and the checkpoint no {SCALE_FACTOR}")
    factor = state[SCALE_FACTOR] if by_std else torch.tensor(params.get("scale_factor", 1.0))
    codec.scale.copy_(factor.float().reciprocal().expand_as(codec.scale))
    return codec


def _conditioner(
    params: Options, state: State, vocabulary: Vocabulary, unet: UNet, codec: Codec
) -> Conditioner:
    config: Any = params.get("cond_stage_config", "__is_unconditional__")
    default = "concat" if params.get("concat_mode", True) else "crossattn"
    way = params.get("conditioning_key") or default
    maps = unet.conv_in.in_channels - codec.latent_channels
    if config == "__is_unconditional__":
        check_section({}, state, CONDITIONER)
        return _fitting(Unconditional(), unet, maps)
    if way not in ("concat", "crossattn"):
        raise UserError(f"{_WHERE} has conditioning_key={way}: use concat or crossattn")
    dims = {"map_channels": maps} if way == "concat" else {"token_dim": unet.token_dim}
    if config == "__is_first_stage__":
        first_stage = build_autoencoder(_inner(params, "first_stage_config"))
        shapes = Renaming(first_stage, autoencoder_layers(first_stage)).shapes
        check_section(shapes, state, CONDITIONER)
        return GivenConditioner("latents of masked images and their masks", **dims)
    target, options = need(config, "target", "cond_stage_config"), config.get("params", {})
    conditioner = load_conditioner(target, options, state, vocabulary)
    if isinstance(conditioner, GivenConditioner) and conditioner.token_dim is None:
        return GivenConditioner(conditioner.what, **dims)
    return _fitting(conditioner, unet, maps)


def _fitting(conditioner: Conditioner, unet: UNet, maps: int) -> Conditioner:
    if (conditioner.map_channels, conditioner.token_dim) != (maps, unet.token_dim):
        raise UserError(
            f"unet_config takes {maps} map channels and tokens of width {unet.token_dim}; "
            f"cond_stage_config gives {conditioner.map_channels} and {conditioner.token_dim}"
        )
    return conditioner
