"""Every tensor of the published configurations finds its place, on `meta`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.diffusion.schedule import scaled_linear
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.compvis.autoencoder import build_autoencoder
from ldmlab.interop.compvis.conditioner import build_conditioner
from ldmlab.interop.compvis.unet import build_unet
from tests.golden.cases import read
from tests.golden.configurations import COUNTED, DIFFUSION, FIRST_STAGES, diffusion, first_stage


def on_meta(name: str) -> dict[str, Tensor]:
    keys = read("published")[name]["keys"]
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_published_key_list_has_a_case() -> None:
    assert read("published").keys() == FIRST_STAGES.keys() | DIFFUSION.keys()


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_published_first_stage_keys_load(name: str) -> None:
    state, want = on_meta(name), read("published")[name]["params"]
    autoencoder = compvis.load_autoencoder(FIRST_STAGES[name], state)
    quants = want["quant_conv"] + want["quantize"]
    assert count(autoencoder) == want["ae_total"]
    assert count(autoencoder.encoder) == want["enc"]
    assert count(autoencoder.decoder) == want["dec"]
    assert count(autoencoder.bottleneck) == quants
    assert count(autoencoder.post_quant) == want["post_quant_conv"]
    named = compvis.autoencoder_to_compvis(autoencoder)
    ours = {k: v.shape for k, v in state.items() if not k.startswith("loss.")}
    assert {k: v.shape for k, v in named.items()} == ours


@pytest.mark.parametrize("name", DIFFUSION)
def test_published_latent_diffusion_keys_load(name: str) -> None:
    state, want = on_meta(name), read("published")[name]["params"]
    model = compvis.load(DIFFUSION[name], state)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert count(model.network.backbone) == want["unet"]
    assert count(model.codec) == want["ae_total"]
    unused = sum(v.numel() for k, v in state.items() if "to_logits" in k)
    assert count(model.network.conditioner) + unused == want.get("cond_stage", 0)
    assert count(model) + unused == want["total_unique_params"]
    prefix = "model.diffusion_model."
    named = compvis.unet_to_compvis(model.network.backbone)
    assert {prefix + k: v.shape for k, v in named.items()} == {
        k: v.shape for k, v in state.items() if k.startswith(prefix)
    }
    params = DIFFUSION[name]["model"]["params"]
    schedule = scaled_linear(1000, params["linear_start"], params["linear_end"])
    assert torch.equal(model.process.schedule.betas, schedule.betas)
    assert model.process.loss_type == params.get("loss_type", "l2")


@pytest.mark.parametrize("name", COUNTED)
def test_counted_latent_diffusion_keys_load(name: str) -> None:
    stage, unet, condition, unet_count, conditioner_count, total, tensors = COUNTED[name]
    config = diffusion(stage, unet, condition)
    params = config["model"]["params"]["unet_config"]["params"]
    weights = compvis.unet_to_compvis(build_unet(params))
    averages = {f"model_ema.diffusion_model{k.replace('.', '')}": v for k, v in weights.items()}
    target, options = condition[1], condition[2]
    conditioner = build_conditioner(target, options, None)
    conditions = compvis.conditioner_to_compvis(target, conditioner)
    if target == "BERTEmbedder":
        size, dim = conditions["transformer.token_emb.weight"].shape
        conditions["transformer.to_logits.weight"] = torch.empty(size, dim, device="meta")
        conditions["transformer.to_logits.bias"] = torch.empty(size, device="meta")
    first = compvis.autoencoder_to_compvis(build_autoencoder(stage))
    state = {f"model.diffusion_model.{k}": v for k, v in weights.items()}
    state |= averages | {f"first_stage_model.{k}": v for k, v in first.items()}
    state |= {f"cond_stage_model.{k}": v for k, v in conditions.items()}
    schedule_and_counters = 12 + 2
    assert len(state) + schedule_and_counters == tensors
    model = compvis.load(config, state)
    unused = sum(v.numel() for k, v in state.items() if "to_logits" in k)
    assert count(model.network.backbone) == unet_count
    assert count(model.network.conditioner) + unused == conditioner_count
    assert count(model) + unused == total


@pytest.mark.parametrize(
    ("stage", "total"),
    [
        (first_stage(64, [1, 1, 2, 2, 4, 4], attn_resolutions=[16, 8]), 103_880_131),
        (first_stage(4, [1, 2, 2, 4], 256, attn_resolutions=[32]), 67_652_783),
    ],
)
def test_counted_first_stage_keys_load(stage: dict[str, Any], total: int) -> None:
    assert count(build_autoencoder(stage)) == total


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("betas2", "1 unknown .betas2."),
        ("model_ema.surplus", "model_ema: tensors 1 unknown .model_ema.surplus."),
        ("cond_stage_model.embedding.weight", "cond_stage_model: tensors 1 unknown"),
        ("first_stage_model.quantize.surplus", "first_stage_model: tensors 1 unknown"),
    ],
)
def test_unknown_tensor_is_named(change: str, words: str) -> None:
    name = "models__ldm__celeba256"
    with pytest.raises(UserError, match=words) as caught:
        compvis.load(DIFFUSION[name], on_meta(name) | {change: torch.empty(3, device="meta")})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.out.2.bias",
        "model_ema.diffusion_modelout2bias",
        "first_stage_model.quantize.embedding.weight",
    ],
)
def test_missing_or_misshapen_tensor_is_named(key: str) -> None:
    name = "models__ldm__celeba256"
    state = on_meta(name)
    with pytest.raises(UserError, match=f"1 of another shape .{key} .* instead of"):
        compvis.load(DIFFUSION[name], state | {key: torch.empty(7, 7, device="meta")})
    del state[key]
    with pytest.raises(UserError, match=f"1 missing .{key}"):
        compvis.load(DIFFUSION[name], state)
