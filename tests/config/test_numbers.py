"""The numbers of conf/ against those of the papers and repositories they come from."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir

LDM = "Rombach et al. 2022, CompVis/latent-diffusion, "
EDM = "Karras et al. 2022, table 1"
FIRST = LDM + "models/first_stage_models and configs/autoencoder"

# Leaf, its numbers, and where they were printed.
LEAVES: list[tuple[str, dict[str, Any], str]] = [
    ("weighting/min_snr", {"gamma": 5}, "Hang et al. 2023, section 3.4"),
    ("weighting/soft_min_snr", {"gamma": 5}, "Hang et al. 2023; Crowson et al. 2024"),
    ("weighting/edm", {"data_std": 1}, "unit variance of normalised latents"),
    ("weighting/unit_and_vlb", {"factors": [1, 0.001]}, "Nichol & Dhariwal 2021, section 3.1"),
    ("parameterization/edm", {"data_std": 1}, "unit variance of normalised latents"),
    ("parameterization/learned_variance", {"vlb_weight": 0.001}, "Nichol & Dhariwal 2021, 3.1"),
    ("timestep_sampler/log_normal", {"mean": -1.2, "std": 1.2}, EDM),
    ("timestep_sampler/logit_normal", {"mean": 0, "std": 1}, "Esser et al. 2024, section 3.1"),
    (
        "timestep_sampler/loss_second_moment",
        {"history": 10, "uniform_share": 0.001},
        "openai/improved-diffusion, resample.py",
    ),
    (
        "schedule/linear",
        {"num_steps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
        "Ho et al. 2020, section 4",
    ),
    (
        "schedule/cosine",
        {"num_steps": 1000, "offset": 0.008, "max_beta": 0.999},
        "Nichol & Dhariwal 2021, section 3.2",
    ),
    ("schedule/karras_ve", {"sigma_min": 0.002, "sigma_max": 80, "rho": 7}, EDM),
    (
        "schedule/scaled_linear",
        {"num_steps": 1000, "beta_start": 0.0015, "beta_end": 0.0195},
        LDM + "celebahq-ldm-vq-4.yaml, cin256-v2.yaml",
    ),
    (
        "schedule/scaled_linear_0155",
        {"num_steps": 1000, "beta_start": 0.0015, "beta_end": 0.0155},
        LDM + "lsun_churches-ldm-kl-8.yaml, bsr_sr",
    ),
    (
        "schedule/scaled_linear_0205",
        {"num_steps": 1000, "beta_start": 0.0015, "beta_end": 0.0205},
        LDM + "semantic_synthesis256, layout2img-openimages256, inpainting_big",
    ),
    (
        "schedule/scaled_linear_text",
        {"num_steps": 1000, "beta_start": 0.00085, "beta_end": 0.012},
        LDM + "txt2img-1p4B-eval.yaml",
    ),
    (
        "schedule/zero_terminal_snr",
        {"schedule.beta_start": 0.0015, "schedule.beta_end": 0.0195},
        "Lin et al. 2024, algorithm 1, of the published schedule",
    ),
    (
        "schedule/sigmoid",
        {"start": -3, "end": 3, "temperature": 1},
        "Jabri et al. 2022; Chen 2023, algorithm 1",
    ),
    ("optimizer/muon", {"momentum": 0.95}, "Jordan et al. 2024, KellerJordan/Muon"),
    ("ema/warmup", {"decay": 0.9999}, LDM + "ldm/modules/ema.py"),
    ("ema/power", {"gamma": 6.94}, "Karras et al. 2024, section 3.1: sigma_rel of .10"),
    ("ema/post_hoc", {"lengths": [0.10, 0.05]}, "Karras et al. 2024, section 3.2"),
    ("guidance/classifier_free_1_5", {"scale": 1.5}, LDM + "table 1, LDM-KL-8-G and LDM-4-G"),
    ("guidance/rescaled", {"scale": 7.5, "rescale": 0.7}, "Lin et al. 2024, section 3.4"),
    ("sampler/ddim", {"eta": 0}, "Song et al. 2021, section 4.1: deterministic"),
    ("sampler/ddim_100_noisy", {"steps": 100, "eta": 1}, LDM + "table 15 and its section E.1"),
    ("sampler/ddim_200", {"steps": 200, "eta": 0}, LDM + "table 12"),
    ("sampler/ddim_200_noisy", {"steps": 200, "eta": 1}, LDM + "table 12"),
    ("sampler/ddim_250", {"steps": 250, "eta": 0}, LDM + "table 2"),
    ("sampler/ddim_250_noisy", {"steps": 250, "eta": 1}, LDM + "table 3"),
    ("sampler/ddim_500", {"steps": 500, "eta": 0}, LDM + "table 12, CelebA-HQ"),
    ("sampler/ddpm", {"steps": 1000}, "Ho et al. 2020, section 4"),
    (
        "sampler/heun",
        {"steps": 18, "churn": 0, "churn_noise": 1, "spacing": "linspace"},
        "Karras et al. 2022, table 2: 35 calls, deterministic",
    ),
    (
        "sampler/predictor_corrector",
        {"corrections": 1, "snr": 0.16},
        "Song et al. 2021 (score SDE), appendix G",
    ),
    (
        "autoencoder/f2",
        {"channels": 128, "channel_mult": [1, 2], "num_res_blocks": 2, "attention_factors": []},
        LDM + "table 8",
    ),
    (
        "autoencoder/f4",
        {"channels": 128, "channel_mult": [1, 2, 4], "num_res_blocks": 2, "attention_factors": []},
        FIRST,
    ),
    ("autoencoder/f4_noattn", {"channel_mult": [1, 2, 4], "middle_attention": False}, FIRST),
    (
        "autoencoder/f8",
        {"channels": 128, "channel_mult": [1, 2, 4, 4], "num_res_blocks": 2,
         "attention_factors": [], "middle_attention": True},
        FIRST,
    ),
    (
        "autoencoder/f8_attention",  # 32 of 256 pixels are a factor of 8
        {"channels": 128, "channel_mult": [1, 2, 2, 4], "attention_factors": [8]},
        FIRST,
    ),
    (
        "autoencoder/f16",
        {"channels": 128, "channel_mult": [1, 1, 2, 2, 4], "attention_factors": [16]},
        FIRST,
    ),
    (
        "autoencoder/f32",
        {"channels": 128, "channel_mult": [1, 1, 2, 2, 4, 4], "attention_factors": [16, 32]},
        FIRST,
    ),
    ("bottleneck/kl_summed", {"weight": 1e-6}, FIRST),
    (
        "bottleneck/vq",
        {"commitment_weight": 0.25, "codebook_weight": 1, "weight": 1},
        "van den Oord et al. 2017, equation 3; Esser et al. 2021",
    ),
    *((f"bottleneck/vq_{n}", {"num_codes": n}, FIRST) for n in (256, 2048, 8192, 16384)),
    (
        "discriminator/patch_kl",
        {"start": 50_001, "weight": 0.5, "loss": "hinge",
         "discriminator.channels": 64, "discriminator.num_layers": 3},
        FIRST,
    ),
    ("discriminator/patch_vq_f4", {"start": 0, "weight": 0.75}, FIRST),
    ("discriminator/patch_vq_f4_noattn", {"start": 11, "weight": 0.75}, FIRST),
    (
        "discriminator/patch_vq_f8",
        {"start": 1, "weight": 0.6, "discriminator.num_layers": 2},
        FIRST,
    ),
    ("discriminator/patch_vq_f8_n256", {"start": 250_001, "weight": 0.75}, FIRST),
    (
        "discriminator/patch_vq_f16",
        {"start": 250_001, "weight": 0.75, "discriminator.num_layers": 2},
        FIRST,
    ),
    ("perceptual/lpips", {"weight": 1, "distance.net": "vgg"}, FIRST),
    (
        "network/ldm",  # attention at 32, 16 and 8 pixels of 64
        {"channels": 224, "channel_mult": [1, 2, 3, 4], "num_res_blocks": 2, "head_channels": 32,
         "attention_factors": [2, 4, 8], "dropout": 0, "transformer_depth": 1},
        LDM + "table 12, celebahq-ldm-vq-4.yaml",
    ),
    (
        "network/ldm_class",
        {"channels": 192, "channel_mult": [1, 2, 3, 5], "num_heads": 1,
         "attention_factors": [2, 4, 8]},
        LDM + "cin256-v2.yaml",
    ),
    (
        "network/ldm_coarse",
        {"channels": 256, "channel_mult": [1, 2, 4], "attention_factors": [1, 2, 4]},
        LDM + "table 13, cin-ldm-vq-f8.yaml",
    ),
    (
        "network/ldm_middle",
        {"channels": 128, "channel_mult": [1, 4, 8], "num_heads": 8},
        LDM + "table 15, semantic_synthesis256",
    ),
    (
        "conditioner/bert",
        {"max_length": 77, "dim": 1280, "depth": 32, "num_heads": 8, "head_dim": 64},
        LDM + "table 17, txt2img-1p4B-eval.yaml",
    ),
    ("conditioner/bert_640", {"dim": 640, "depth": 32}, LDM + "text2img256"),
    (
        "conditioner/layout",
        {"max_length": 92, "dim": 512, "depth": 16},
        LDM + "table 17, layout2img-openimages256",
    ),
    ("conditioner/class_token", {"dim": 512}, LDM + "cin256-v2.yaml"),
    ("conditioner/mask_rgb", {"map_channels": 3}, LDM + "semantic_synthesis256"),
]  # fmt: skip

STAGE_TWO = {"betas": [0.9, 0.999], "weight_decay": 0.01, "clip_norm": None, "loss_type": "l2"}
L1 = STAGE_TWO | {"loss_type": "l1"}

# Experiment, numbers of its second stage, and where they were printed.
EXPERIMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("celebahq", STAGE_TWO | {"condition_dropout": 0, "warmup_steps": 0}, LDM + "main.py's AdamW"),
    ("imagenet", STAGE_TWO | {"condition_dropout": 0.1}, LDM + "section 4.2; Ho & Salimans 2022"),
    ("laion", STAGE_TWO | {"condition_dropout": 0.1}, "Ho & Salimans 2022, section 4.2"),
    ("lsun_churches", L1 | {"warmup_steps": 10_000}, LDM + "lsun_churches-ldm-kl-8.yaml"),
    ("landscapes", L1, LDM + "semantic_synthesis256"),
    ("inpainting", L1, LDM + "inpainting_big"),
    ("superresolution", STAGE_TWO, LDM + "bsr_sr"),
]


@pytest.mark.parametrize(("leaf", "numbers", "source"), LEAVES, ids=[row[0] for row in LEAVES])
def test_leaf_has_the_numbers_of_its_source(
    leaf: str, numbers: dict[str, Any], source: str
) -> None:
    node = _leaf(*leaf.split("/"))
    found = {key: _plain(OmegaConf.select(node, key)) for key in numbers}
    assert found == numbers, source


@pytest.mark.parametrize(
    ("name", "numbers", "source"), EXPERIMENTS, ids=[row[0] for row in EXPERIMENTS]
)
def test_experiment_trains_with_the_numbers_of_its_source(
    name: str, numbers: dict[str, Any], source: str
) -> None:
    stage = compose([f"experiment={name}"]).stages
    assert {key: _plain(stage.diffusion[key]) for key in numbers} == numbers, source
    assert list(stage.autoencoder.betas) == [0.5, 0.9], "Esser et al. 2021, as released"
    assert stage.autoencoder.lr / stage.autoencoder.batch_size == pytest.approx(4.5e-6)


def test_sources_are_named() -> None:
    assert all(len(source) > 10 for _, _, source in (*LEAVES, *EXPERIMENTS))
    assert len({leaf for leaf, _, _ in LEAVES}) == len(LEAVES)


def _leaf(group: str, name: str) -> Any:
    """A leaf on top of the one that its defaults name; composing everything takes a while."""
    node: Any = OmegaConf.load(conf_dir() / group / f"{name}.yaml")
    return OmegaConf.merge(*(_leaf(group, base) for base in node.pop("defaults", [])), node)


def test_leaf_on_another_is_read_as_it_is_composed() -> None:
    for leaf in ("discriminator/patch_kl", "network/ldm_class", "schedule/scaled_linear_text"):
        group, name = leaf.split("/")
        assert _leaf(group, name) == compose([f"{group}={name}"])[group]


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
