"""Models leave for diffusers and come back; diffusers itself draws what we draw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMPipeline, DiffusionPipeline, LDMPipeline, VQModel
from safetensors.torch import load_file
from tests.unit.interop.tiny import WORDS, published
from torch import Tensor

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL
from ldmlab.autoencoding.codec import IdentityCodec, NormalizedCodec
from ldmlab.conditioning.none import Unconditional
from ldmlab.conditioning.text import TextConditioner
from ldmlab.conditioning.vocabulary import WordPiece
from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.parameterization import EDM, Eps, V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import (
    RectifiedFlow,
    cosine,
    linear,
    scaled_linear,
    sigmoid,
    zero_terminal_snr,
)
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import Unit
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.diffusers.autoencoder import autoencoder_config
from ldmlab.interop.diffusers.import_model import import_pipeline
from ldmlab.interop.diffusers.pipeline import to_diffusers_unet, write_pipeline
from ldmlab.interop.diffusers.scheduler import process_of, scheduler_config
from ldmlab.interop.diffusers.unet import unet_config
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.unet import UNet

STEPS = 5
CONDITIONS: dict[str, Any] = {
    "class": [0, 3],
    "mask": (torch.arange(2 * 32 * 32) % 4).reshape(2, 32, 32).sort(1).values,
    "text": ["a red house", "dark hills on the left"],
}
PUBLISHED = DDIM(STEPS, "leading_plus_one", "first_entry")


def model_of(kind: str, normalized: bool = False) -> LatentDiffusion:
    config, state = published(kind)
    model = compvis.load(config, state, WORDS if kind == "text" else None).eval()
    if normalized:
        assert isinstance(model.codec, NormalizedCodec)
        model.codec.shift.copy_(torch.tensor([0.3, -0.1])[:, None, None])
        model.codec.scale.copy_(torch.tensor([1.7, 0.6])[:, None, None])
    return model


def batch(kind: str) -> Batch:
    match kind:
        case "class":
            return Batch(torch.arange(2), label=torch.tensor(CONDITIONS[kind]))
        case "mask":
            return Batch(torch.arange(2), mask=CONDITIONS[kind])
        case "text":
            return Batch(torch.arange(2), caption=tuple(CONDITIONS[kind]))
        case _:
            return Batch(torch.arange(2))


def noise() -> Tensor:
    return torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(3))


def close(got: Tensor, want: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def ours(model: LatentDiffusion, kind: str, sampler: DDIM, scale: float = 1.0) -> Tensor:
    guidance = None if scale == 1 else ClassifierFree(scale)
    schedule = model.process.schedule
    denoiser = model.guided(batch(kind), guidance)
    z = sampler(denoiser, noise(), sampler.timesteps(schedule), schedule, SampleNoise(0, range(2)))
    return (model.codec.decode(z) / 2 + 0.5).clamp(0, 1)


def theirs(folder: Path, kind: str, steps: int, scale: float = 1.0) -> Tensor:
    pipeline = DiffusionPipeline.from_pretrained(
        folder, trust_remote_code=True, low_cpu_mem_usage=False
    )
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(pipeline, LDMPipeline | DDIMPipeline):
        generator = torch.Generator().manual_seed(3)
        options: dict[str, Any] = {"batch_size": 2, "generator": generator, "output_type": "np"}
        images = pipeline(num_inference_steps=steps, **options).images
        return torch.from_numpy(images).movedim(-1, 1)
    options = {"latents": noise(), "guidance_scale": scale, "output_type": "pt"}
    condition = CONDITIONS.get(kind)
    return pipeline(condition, batch_size=2, num_inference_steps=steps, **options).images


@pytest.mark.parametrize(
    ("kind", "normalized"),
    [("none", False), ("none", True), ("class", False), ("mask", True), ("text", False)],
)
def test_diffusers_export_round_trips(kind: str, normalized: bool, tmp_path: Path) -> None:
    model = model_of(kind, normalized)
    write_pipeline(model, 32, tmp_path, PUBLISHED)
    scale = 1.0 if kind in ("none", "mask") else 2.5
    want = ours(model, kind, PUBLISHED, scale)
    close(theirs(tmp_path, kind, STEPS, scale), want, 1e-4)
    assert want.std() > 0.05
    (tmp_path / "pipeline.py").write_text("raise SystemExit('code was run')")
    if (tmp_path / "conditioner").exists():
        (tmp_path / "conditioner" / "conditioner.py").write_text("raise SystemExit('code was run')")
    back = import_pipeline(tmp_path)
    assert isinstance(back.model, LatentDiffusion)
    for name, value in model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], value), name
    close(ours(back.model.eval(), kind, PUBLISHED, scale), want, 1e-5)
    assert back.leaves["sampler"]["spacing"] == "leading_plus_one"
    assert back.spec.image_size == 32


@pytest.mark.parametrize(
    "options",
    [
        {"num_heads": 1},
        {"head_channels": 16, "scale_shift": True, "resample_blocks": True},
        {"head_channels": 32, "attention_factors": [1, 2], "num_res_blocks": 2},
        {"num_heads": 4, "token_dim": 6, "transformer_depth": 2, "vector_dim": 5},
        {"head_channels": 16, "token_dim": 6, "scale_shift": True, "attention_factors": []},
    ],
)
def test_diffusers_unet_equals_ours(options: dict[str, Any]) -> None:
    unet = UNet(5, 3, channels=32, channel_mult=[1, 2, 3], **({"attention_factors": [2]} | options))
    generator = torch.Generator().manual_seed(0)
    for parameter in unet.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    x, t = torch.randn(2, 5, 8, 8, generator=generator), torch.tensor([0.0, 731.0])
    tokens = None if unet.token_dim is None else torch.randn(2, 4, 6, generator=generator)
    vector = None if unet.vector_dim is None else torch.randn(2, 5, generator=generator)
    slots = {"encoder_hidden_states": tokens, "class_labels": vector}
    slots = {name: value for name, value in slots.items() if value is not None}
    with torch.no_grad():
        want = unet(x, t, tokens=tokens, vector=vector)
        close(to_diffusers_unet(unet)(x, t, **slots).sample, want, 1e-5)
    assert want.std() > 0.01


@pytest.mark.parametrize("kind", ["none", "class"])
def test_diffusers_autoencoder_equals_ours(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    write_pipeline(model, 32, tmp_path)
    name = "vqvae" if kind == "none" else "vae"
    vae = (AutoencoderKL if kind == "none" else VQModel).from_pretrained(
        tmp_path / name, low_cpu_mem_usage=False
    )
    assert isinstance(model.codec, NormalizedCodec)
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        moments = model.codec.autoencoder.encode(image).moments()
        encoded = vae.encode(image)
        if kind == "none":
            close(encoded.latent_dist.mean, moments.mean, 1e-5)
            close(encoded.latent_dist.std, moments.std, 1e-5)
        else:
            close(encoded.latents, moments.mean, 1e-5)
        want = model.codec.autoencoder.decode(moments.mean)
        close(vae.decode(moments.mean).sample, want, 1e-5)


def test_diffusers_export_of_pixel_v_model_with_zero_terminal_snr_samples(tmp_path: Path) -> None:
    unet = UNet(1, 1, channels=32, channel_mult=[1, 2], num_heads=1)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    schedule = zero_terminal_snr(scaled_linear())
    process = DiffusionProcess(schedule, V(), Unit(), Uniform())
    network = ConditionalNetwork(unet, Unconditional())
    model = LatentDiffusion(IdentityCodec(1), network, process, 0.0).eval()
    write_pipeline(model, 16, tmp_path, DDIM(10))
    pipeline = DDIMPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(2, generator, num_inference_steps=10, output_type="np").images
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    sampler = DDIM(10)
    with torch.no_grad():
        denoiser = model.guided(Batch(torch.arange(2)))
        want = sampler(denoiser, x, sampler.timesteps(schedule), schedule, SampleNoise(0, range(2)))
    close(torch.from_numpy(drawn).movedim(-1, 1), (want / 2 + 0.5).clamp(0, 1), 1e-4)
    back = import_pipeline(tmp_path).model
    assert isinstance(back, LatentDiffusion) and isinstance(back.codec, IdentityCodec)
    assert torch.equal(back.process.schedule.betas, schedule.betas)  # type: ignore[attr-defined]


def test_diffusers_text_export_is_a_stock_pipeline(tmp_path: Path) -> None:
    conditioner = TextConditioner(WORDS, 77, dim=8, depth=2, num_heads=2, head_dim=4)
    shape = {"channels": 32, "channel_mult": [1, 2], "num_heads": 2}
    unet = UNet(2, 2, token_dim=8, **shape)  # type: ignore[arg-type]
    autoencoder = Autoencoder(KL(2), channels=32, channel_mult=[1, 1, 1, 1], num_res_blocks=1)
    codec = NormalizedCodec(autoencoder)
    codec.scale.fill_(1 / 0.18215)
    process = DiffusionProcess(scaled_linear(), Eps(), Unit(), Uniform())
    model = LatentDiffusion(codec, ConditionalNetwork(unet, conditioner), process)
    write_pipeline(model, 32, tmp_path, PUBLISHED)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "LDMTextToImagePipeline"
    assert not (tmp_path / "pipeline.py").exists()
    # As diffusers' own class names its tensors and its options.
    bert = load_file(tmp_path / "bert" / "model.safetensors")
    assert bert["to_logits.weight"].shape == (len(WORDS), 8)
    assert bert["model.layers.1.self_attn.q_proj.weight"].shape == (8, 8)
    assert {key.split(".")[1] for key in bert if key.startswith("model.")} == {
        *("embed_tokens", "embed_positions", "layers", "layer_norm")
    }
    back = import_pipeline(tmp_path)
    assert isinstance(back.model, LatentDiffusion)
    for name, value in model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], value), name
    assert back.spec.vocabulary == tuple(WORDS)
    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(bert, tmp_path / "bert" / "pytorch_model.bin")
    (tmp_path / "tokenizer" / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"diffusers=.*tokenizer holds neither tokenizer\.json nor"):
        import_pipeline(tmp_path)
    WordPiece(WORDS).save(tmp_path / "tokenizer" / "tokenizer.json")
    assert import_pipeline(tmp_path).spec.vocabulary == tuple(WORDS)
    torch.save(bert | {"surplus": torch.zeros(1)}, tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(UserError, match="surplus"):
        import_pipeline(tmp_path)


@pytest.mark.parametrize("schedule", [scaled_linear(), linear(), cosine(), sigmoid()])
@pytest.mark.parametrize("kind", [Eps, V])
def test_diffusers_scheduler_round_trips(schedule: Any, kind: type) -> None:
    process = DiffusionProcess(schedule, kind(), Unit(), Uniform())
    config = json.loads(json.dumps(scheduler_config(process)))
    back = process_of(config)
    assert torch.equal(back.schedule.betas, schedule.betas)  # type: ignore[attr-defined]
    assert type(back.parameterization) is kind


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (DiffusionProcess(linear(), EDM(), Unit(), Uniform()), "parameterization=EDM"),
        (DiffusionProcess(RectifiedFlow(), V(), Unit(), Uniform()), "schedule=RectifiedFlow"),
        (DiffusionProcess(linear(500), V(), Unit(), Uniform()), "schedule.num_steps=500"),
    ],
)
def test_diffusers_process_without_counterpart_is_named(
    process: DiffusionProcess, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        scheduler_config(process)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 48, "num_heads": 1}, "network.channels=48"),
        ({"num_heads": 8, "attention_factors": [1]}, "network.num_heads=8"),
        ({"num_heads": 1, "token_dim": 4, "resample_blocks": True}, "network.resample_blocks"),
        ({"num_heads": 1, "vector_dim": 4}, "network.vector_dim"),
        ({"num_heads": 1, "num_res_blocks": 0}, "network.num_res_blocks=0"),
    ],
)
def test_diffusers_unet_without_counterpart_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        unet_config(UNet(3, 3, **({"channels": 32} | options)))


@pytest.mark.parametrize(
    ("bottleneck", "options", "words"),
    [
        (KL(2), {"patch": 4}, "autoencoder.patch=4"),
        (KL(2), {"num_res_blocks": 0}, "autoencoder.num_res_blocks=0"),
        (KL(2, inner_channels=3), {}, "bottleneck.inner_channels=3"),
    ],
)
def test_diffusers_autoencoder_without_counterpart_is_named(
    bottleneck: KL, options: dict[str, Any], words: str
) -> None:
    autoencoder = Autoencoder(bottleneck, channels=32, channel_mult=[1], **options)
    with pytest.raises(UserError, match=words):
        autoencoder_config(autoencoder)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("unet/config.json", {"act_fn": "gelu"}, "has act_fn=gelu"),
        ("unet/config.json", {"sample_size": None}, "sample_size=None"),
        ("unet/config.json", {"block_out_channels": [32, 96]}, "cannot be loaded"),
        ("vqvae/config.json", {"use_quant_conv": False}, "unexpected keys"),
        ("scheduler/scheduler_config.json", {"clip_sample": True}, "has clip_sample=true"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type=flow"),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "CLIPTextModel"),
        ("model_index.json", {"unet": ["os", "system"]}, "unet=system"),
        ("model_index.json", {"scheduler": [None, None]}, "lacks scheduler"),
    ],
)
def test_diffusers_folder_that_cannot_be_read_is_named(
    file: str, change: dict[str, Any], words: str, exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=words) as caught:
        import_pipeline(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    write_pipeline(model_of("none"), 32, folder)
    return folder


def test_diffusers_pickle_in_a_folder_is_not_run(exported: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "pwned"), "w")

    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": Evil()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        import_pipeline(folder)
    assert not (tmp_path / "pwned").exists()
