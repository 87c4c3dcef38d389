"""CompVis checkpoints: which tensors are taken, which options are read, what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ldmlab.conditioning.vocabulary_making import build_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.compvis.autoencoder import build_autoencoder
from ldmlab.interop.compvis.conditioner import build_conditioner
from ldmlab.interop.compvis.unet import build_unet

UNET = {
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": [1],
    "channel_mult": [1, 2],
    "num_head_channels": 8,
}
TEXT_UNET = UNET | {"use_spatial_transformer": True, "context_dim": 8, "transformer_depth": 2}
BLOCK_UNET = UNET | {"resblock_updown": True, "use_scale_shift_norm": True}
HALVES = {
    "double_z": True,
    "z_channels": 3,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [8],
}
KL = {"embed_dim": 2, "ddconfig": HALVES}
VQ = {"embed_dim": 2, "n_embed": 7, "ddconfig": HALVES | {"double_z": False}}
PLAIN_VQ = VQ | {"ddconfig": VQ["ddconfig"] | {"attn_type": "none"}}
CLASSES = {"n_classes": 5, "embed_dim": 8}
LABELS = {"n_stages": 1, "in_channels": 4, "out_channels": 2}
TEXT = {"n_embed": 8, "n_layer": 2, "vocab_size": 40, "max_seq_len": 6, "dim_head": 4}
PREFIX = "model.diffusion_model."


def drawn(shapes: dict[str, Tensor], prefix: str = "", seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {prefix + k: torch.randn(v.shape, generator=generator) for k, v in shapes.items()}


def unet_state(params: dict[str, Any], prefix: str = "", seed: int = 0) -> dict[str, Tensor]:
    return drawn(compvis.unet_to_compvis(build_unet(params)), prefix, seed)


def stage_state(params: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    return drawn(compvis.autoencoder_to_compvis(build_autoencoder(params)), prefix)


def conditioner_state(name: str, params: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    conditioner = build_conditioner(name, params, None)
    state = drawn(compvis.conditioner_to_compvis(name, conditioner), prefix)
    if name == "BERTEmbedder":
        shape = (params["vocab_size"], params["n_embed"])
        state[f"{prefix}transformer.to_logits.weight"] = torch.zeros(shape)
        state[f"{prefix}transformer.to_logits.bias"] = torch.zeros(shape[:1])
    return state


def config(
    unet: dict[str, Any] = UNET, stage: dict[str, Any] = KL, **options: Any
) -> dict[str, Any]:
    params = {
        "unet_config": {"target": "openaimodel.UNetModel", "params": unet},
        "first_stage_config": {"target": "autoencoder.AutoencoderKL", "params": stage},
        "cond_stage_config": "__is_unconditional__",
    }
    return {"model": {"params": params | options}}


def state_of(unet: dict[str, Any] = UNET, stage: dict[str, Any] = KL) -> dict[str, Tensor]:
    return unet_state(unet, PREFIX) | stage_state(stage, "first_stage_model.")


def conditional(name: str, params: dict[str, Any], key: str) -> dict[str, Any]:
    return {
        "conditioning_key": key,
        "cond_stage_config": {"target": f"encoders.modules.{name}", "params": params},
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("params", [UNET, TEXT_UNET, BLOCK_UNET])
def test_unet_round_trips_through_compvis(params: dict[str, Any]) -> None:
    state = unet_state(params)
    assert same(compvis.unet_to_compvis(compvis.load_unet(params, state)), state)


@pytest.mark.parametrize("params", [KL, VQ, PLAIN_VQ])
def test_autoencoder_round_trips_through_compvis(params: dict[str, Any]) -> None:
    state = stage_state(params)
    autoencoder = compvis.load_autoencoder(params, state | {"loss.logvar": torch.zeros(())})
    assert same(compvis.autoencoder_to_compvis(autoencoder), state)
    attends = any("attn" in key for key in state)
    assert attends == (params is not PLAIN_VQ)


@pytest.mark.parametrize(
    ("name", "params"),
    [("ClassEmbedder", CLASSES), ("SpatialRescaler", LABELS), ("BERTEmbedder", TEXT)],
)
def test_conditioner_round_trips_through_compvis(name: str, params: dict[str, Any]) -> None:
    state = conditioner_state(name, params)
    conditioner = compvis.load_conditioner(f"modules.{name}", params, state)
    named = compvis.conditioner_to_compvis(name, conditioner)
    assert same(named, {k: v for k, v in state.items() if "to_logits" not in k})


def test_compvis_import_ignores_buffers_and_losses() -> None:
    state = state_of() | {"betas": torch.zeros(1000), "loss.logvar": torch.zeros(())}
    alone = unet_state(UNET)
    assert same(compvis.unet_to_compvis(compvis.load_unet(UNET, state)), alone)
    named = compvis.autoencoder_to_compvis(compvis.load_autoencoder(KL, state))
    assert same(named, stage_state(KL))


def test_compvis_import_takes_the_ema_unet() -> None:
    averages = unet_state(UNET, seed=1)
    named = {f"model_ema.diffusion_model{k.replace('.', '')}": v for k, v in averages.items()}
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(1)}
    unet = compvis.load_unet(UNET, state_of() | named | counters)
    assert same(compvis.unet_to_compvis(unet), averages)
    missing = named | counters
    del missing["model_ema.diffusion_modelout2bias"]
    with pytest.raises(UserError, match=r"1 missing .model_ema[.]diffusion_modelout2bias"):
        compvis.load_unet(UNET, state_of() | missing)


def test_compvis_weights_are_float32_copies() -> None:
    state = {key: value.half() for key, value in unet_state(UNET).items()}
    before = state["out.2.bias"].clone()
    unet = compvis.load_unet(UNET, state)
    assert all(p.dtype == torch.float32 and p.requires_grad for p in unet.parameters())
    nn.init.zeros_(unet.conv_out.bias)
    full = unet_state(UNET)
    nn.init.zeros_(compvis.load_unet(UNET, full).conv_out.bias)
    assert torch.equal(state["out.2.bias"], before)
    assert full["out.2.bias"].any()


def test_compvis_codec_scales_as_published() -> None:
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    mean = compvis.load_autoencoder(KL, stage_state(KL)).encode(image).mean
    plain = compvis.load(config(scale_factor=0.25), state_of()).codec
    torch.testing.assert_close(plain.encode(image).mean, 0.25 * mean)
    torch.testing.assert_close(plain.decode(0.25 * mean), plain.autoencoder.decode(mean))
    by_std = config(scale_by_std=True)
    measured = compvis.load(by_std, state_of() | {"scale_factor": torch.tensor(3.0)}).codec
    torch.testing.assert_close(measured.encode(image).mean, 3 * mean)
    with pytest.raises(UserError, match="checkpoint no scale_factor"):
        compvis.load(by_std, state_of())


def test_compvis_config_may_be_the_file_its_model_or_its_params() -> None:
    whole = config(beta_schedule="cosine", timesteps=50)
    for part in (whole, whole["model"], whole["model"]["params"]):
        model = compvis.load(part, state_of())
        assert model.process.schedule.num_steps == 50


def test_compvis_label_map_model_samples() -> None:
    unet = UNET | {"in_channels": 4}
    options = conditional("SpatialRescaler", LABELS, "concat")
    state = state_of(unet) | conditioner_state("SpatialRescaler", LABELS, "cond_stage_model.")
    model = compvis.load(config(unet, **options), state)
    batch = Batch(index=torch.arange(2), mask=torch.randint(0, 4, (2, 16, 16)))
    sampler, noise = DDIM(steps=2), SampleNoise(0, range(2))
    assert model.sample(batch, 16, sampler, noise).shape == (2, 3, 16, 16)


def test_compvis_thousand_class_table_has_no_null_class() -> None:
    plain = {"embed_dim": 8}
    options = conditional("ClassEmbedder", plain, "crossattn")
    state = state_of(TEXT_UNET) | conditioner_state("ClassEmbedder", plain, "cond_stage_model.")
    model = compvis.load(config(TEXT_UNET, **options), state)
    batch = Batch(index=torch.arange(2), label=torch.tensor([0, 999]))
    noise = SampleNoise(0, range(2))
    assert bool(model.sample(batch, 16, DDIM(steps=2), noise).isfinite().all())
    terms = model.loss(
        Batch(index=batch.index, label=batch.label, image=torch.zeros(2, 3, 16, 16)), noise
    )
    assert bool(terms.per_sample.isfinite().all())
    with pytest.raises(UserError, match="no null class"):
        model.sample(batch, 16, DDIM(steps=2), noise, ClassifierFree(2.0))


def test_compvis_captions_need_a_vocabulary_and_token_ids_none() -> None:
    vocabulary = build_vocabulary(["a red house"])
    params = TEXT | {"vocab_size": len(vocabulary)}
    state = conditioner_state("BERTEmbedder", params)
    ids = compvis.load_conditioner("BERTEmbedder", params, state)
    captions = compvis.load_conditioner("BERTEmbedder", params, state, vocabulary)
    batch = Batch(index=torch.arange(1), caption=("a house",))
    tokens = captions.select(batch)
    torch.testing.assert_close(ids(tokens).tokens, captions(tokens).tokens)
    with pytest.raises(UserError, match="conditioned on token numbers"):
        ids.select(batch)
    with pytest.raises(UserError, match="vocabulary has 2 tokens"):
        compvis.load_conditioner("BERTEmbedder", params, state, ["[PAD]", "a"])


def test_compvis_conditioner_without_counterpart_is_passed_on() -> None:
    # Masked latents and a mask beside the noised latents: the first stage is the conditioner.
    unet = UNET | {"in_channels": 5}
    state = state_of(unet) | stage_state(KL, "cond_stage_model.")
    options = {"conditioning_key": "concat", "cond_stage_config": "__is_first_stage__"}
    model = compvis.load(config(unet, **options), state)
    conditioner = model.network.conditioner
    assert conditioner.map_channels == 3
    x, maps = torch.randn(2, 2, 8, 8), torch.randn(2, 3, 8, 8)
    together = model.network.backbone(torch.cat([x, maps], 1), torch.tensor([3, 7]))
    given = model.network(x, torch.tensor([3.0, 7.0]), conditioner(maps))
    torch.testing.assert_close(given, together)
    with pytest.raises(UserError, match="latents of masked images") as caught:
        conditioner.select(Batch(index=torch.arange(2)))
    assert "\n" not in str(caught.value)

    identity = {"conditioning_key": "crossattn", "cond_stage_config": {"target": "nn.Identity"}}
    tokens = compvis.load(config(TEXT_UNET, **identity), state_of(TEXT_UNET)).network.conditioner
    assert tokens.token_dim == 8
    assert tokens(torch.zeros(2, 5, 8)).tokens.shape == (2, 5, 8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (config(UNET | {"num_classes": 10}), "unet_config .*num_classes=10"),
        (config(UNET | {"num_head_channels": -1}), "lacks num_heads"),
        (config({**UNET, "model_channels": None}), "lacks model_channels"),
        (config(stage=KL | {"ddconfig": HALVES | {"tanh_out": True}}), "tanh_out=True"),
        (config(stage=KL | {"ddconfig": HALVES | {"attn_type": "linear"}}), "attn_type=linear"),
        (config(parameterization="x0"), "parameterization=x0"),
        (config(beta_schedule="sqrt"), "beta_schedule=sqrt"),
        (config(loss_type="huber"), "loss_type=huber"),
        (config(**conditional("ClassEmbedder", CLASSES, "adm")), "conditioning_key=adm"),
        (config(**conditional("FrozenCLIPEmbedder", {}, "crossattn")), "FrozenCLIPEmbedder"),
        (config(UNET | {"in_channels": 4}), "takes 2 map channels"),
        ({"model": {"params": {}}}, "lacks unet_config"),
    ],
)
def test_compvis_config_without_counterpart_is_refused(changed: dict[str, Any], words: str) -> None:
    unet = changed["model"]["params"].get("unet_config", {}).get("params", UNET)
    state = state_of(UNET | {"in_channels": unet["in_channels"]})
    with pytest.raises(UserError, match=words) as caught:
        compvis.load(changed, state)
    assert "\n" not in str(caught.value)


def test_compvis_checkpoint_faults_are_counted_and_named() -> None:
    state = unet_state(UNET)
    missing = [key for key in state if key.startswith("time_embed")]
    for key in missing:
        del state[key]
    words = re.escape(f"4 missing ({', '.join(missing[:3])}, …); 1 unknown (surplus)")
    with pytest.raises(UserError, match=words):
        compvis.load_unet(UNET, state | {"surplus": torch.zeros(1)})
