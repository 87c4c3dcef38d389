"""Every published model is described by leaves that build it again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.golden import configurations
from tests.golden.test_published import on_meta
from torch import nn

from ldmlab.apps.config.instantiate import build
from ldmlab.conditioning.vocabulary import SPECIALS
from ldmlab.core.errors import UserError
from ldmlab.interop.common.introspect import unet_options
from ldmlab.interop.common.key_map import Renaming
from ldmlab.interop.common.to_config import leaves_of, process_leaves, spec_of
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.diffusers.autoencoder import autoencoder_config, autoencoder_layers
from ldmlab.interop.diffusers.unet import unet_config, unet_layers
from ldmlab.models.latent_diffusion import LatentDiffusion

WORDS = [*SPECIALS, *(f"word{i}" for i in range(30_522 - len(SPECIALS)))]
NAMES = (
    "models__ldm__celeba256",
    "models__ldm__lsun_churches256",
    "models__ldm__cin256",
    "configs__latent-diffusion__cin256-v2",
    "configs__latent-diffusion__txt2img-1p4B-eval",
    "models__ldm__semantic_synthesis256",
)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def load(name: str) -> LatentDiffusion:
    config: dict[str, Any] = configurations.DIFFUSION[name]
    return compvis.load(config, on_meta(name), WORDS if "txt2img" in name else None)


@pytest.mark.parametrize("name", NAMES)
def test_leaves_of_an_import_build_the_same_model(name: str) -> None:
    model = load(name)
    leaves = leaves_of(model)
    spec = spec_of(model.codec, model.network.conditioner, 256)
    with torch.device("meta"):
        autoencoder = build(leaves["autoencoder"], bottleneck=build(leaves["bottleneck"]))
        conditioner = build(leaves["conditioner"], spec=spec, factor=model.codec.factor)
        wired = {"in_channels", "out_channels", "token_dim", "vector_dim"}
        options = unet_options(model.network.backbone)
        unet = build(leaves["network"], **{key: options[key] for key in wired})
    assert shapes(autoencoder) == shapes(model.codec.autoencoder)  # type: ignore[arg-type]
    assert shapes(conditioner) == shapes(model.network.conditioner)
    assert shapes(unet) == shapes(model.network.backbone)
    assert unet_options(unet) == options
    assert torch.equal(
        build(leaves["schedule"]).betas,
        model.process.schedule.betas,  # type: ignore[attr-defined]
    )
    assert leaves["stages"]["diffusion"]["loss_type"] == model.process.loss_type


@pytest.mark.parametrize("name", [NAMES[1], NAMES[2], NAMES[5]])
def test_published_networks_export_to_diffusers(name: str) -> None:
    import diffusers

    model = load(name)
    unet, autoencoder = model.network.backbone, model.codec.autoencoder
    vae = diffusers.VQModel if hasattr(autoencoder.bottleneck, "codes") else diffusers.AutoencoderKL
    if "churches" in name:
        with pytest.raises(UserError, match=r"network\.num_heads=8 has no counterpart"):
            unet_config(unet)
        return
    plain = unet.token_dim is None
    kind = diffusers.UNet2DModel if plain else diffusers.UNet2DConditionModel
    with torch.device("meta"):
        theirs = kind(**unet_config(unet))
        their_vae = vae(**autoencoder_config(autoencoder))
    assert shapes(theirs) == Renaming(unet, unet_layers(unet)).shapes
    layers = autoencoder_layers(autoencoder)
    assert shapes(their_vae) == Renaming(autoencoder, layers).shapes


def test_leaves_describe_a_sum_of_losses() -> None:
    name = "models__ldm__celeba256"
    config: dict[str, Any] = configurations.DIFFUSION[name]
    params = config["model"]["params"] | {"original_elbo_weight": 0.5, "timesteps": 100}
    model = compvis.load(params, on_meta(name))
    weighting = build(process_leaves(model.process)["weighting"])
    t = torch.linspace(0.02, 1, 7)
    schedule = model.process.schedule
    assert torch.equal(weighting(schedule, t), model.process.weighting(schedule, t))
