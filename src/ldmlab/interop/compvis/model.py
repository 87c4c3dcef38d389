"""Models published with CompVis' latent-diffusion: their configurations and state dicts."""

from __future__ import annotations

from typing import Any

import torch

from ldmlab.autoencoding.codec import Codec, IdentityCodec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.given import GivenConditioner
from ldmlab.conditioning.none import Unconditional
from ldmlab.core.errors import UserError
from ldmlab.diffusion.parameterization import Eps
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.schedule import TableSchedule, cosine, linear, scaled_linear
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import VLB, Sum, Unit, Weighting
from ldmlab.interop.common.key_map import Renaming, State
from ldmlab.interop.compvis.autoencoder import (
    autoencoder_layers,
    autoencoder_to_compvis,
    build_autoencoder,
    load_autoencoder,
)
from ldmlab.interop.compvis.checkpoint import CONDITIONER, SCALE_FACTOR, check_section
from ldmlab.interop.compvis.conditioner import (
    Vocabulary,
    conditioner_to_compvis,
    load_conditioner,
)
from ldmlab.interop.compvis.options import Options, need, only
from ldmlab.interop.compvis.unet import load_unet, unet_to_compvis
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.unet import UNet

__all__ = [
    "autoencoder_to_compvis",
    "conditioner_to_compvis",
    "load",
    "load_autoencoder",
    "load_conditioner",
    "load_unet",
    "schedule_of",
    "unet_to_compvis",
]

_WHERE = "model.params"
_UNREAD = {
    "parameterization": "eps",
    "v_posterior": 0.0,
    "learn_logvar": False,
    "logvar_init": 0.0,
    "given_betas": None,
}


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
    weighting: Weighting = Unit()
    if (simple, bound) != (1, 0):
        # The published bound is not multiplied by the number of steps.
        weighting = Sum([simple, bound / count], [Unit(), VLB(variance="beta_tilde")])
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
