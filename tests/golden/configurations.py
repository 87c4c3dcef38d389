"""The published configurations, in the shape of their YAML files."""

from __future__ import annotations

from typing import Any


def first_stage(
    embed_dim: int, mult: list[int], n_embed: int | None = None, **options: Any
) -> dict[str, Any]:
    halves = {
        "double_z": n_embed is None,
        "z_channels": embed_dim,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": mult,
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return {
        "embed_dim": embed_dim,
        "lossconfig": {"target": "torch.nn.Identity"},
        "ddconfig": halves | options,
    } | ({"n_embed": n_embed} if n_embed else {})


KL_F4 = first_stage(3, [1, 2, 4])
KL_F8 = first_stage(4, [1, 2, 4, 4])
VQ_F4 = first_stage(3, [1, 2, 4], 8192)
VQ_F4_NOATTN = first_stage(3, [1, 2, 4], 8192, attn_type="none")
VQ_F8 = first_stage(4, [1, 2, 2, 4], 16384, attn_resolutions=[32])
FIRST_STAGES = {
    "configs__autoencoder__autoencoder_kl_32x32x4": KL_F8,
    "configs__autoencoder__autoencoder_kl_64x64x3": KL_F4,
    "models__first_stage_models__kl-f4": KL_F4,
    "models__first_stage_models__kl-f8": KL_F8,
    "models__first_stage_models__kl-f16": first_stage(16, [1, 1, 2, 2, 4], attn_resolutions=[16]),
    "models__first_stage_models__vq-f4": VQ_F4,
    "models__first_stage_models__vq-f4-noattn": VQ_F4_NOATTN,
    "models__first_stage_models__vq-f8": VQ_F8,
    "models__first_stage_models__vq-f16": first_stage(
        8, [1, 1, 2, 2, 4], 16384, attn_resolutions=[16]
    ),
}


def diffusion(
    stage: dict[str, Any],
    unet: dict[str, Any],
    condition: tuple[str, str, dict[str, Any]] | None = None,
    **options: Any,
) -> dict[str, Any]:
    channels = stage["embed_dim"]
    unet = {"in_channels": channels, "out_channels": channels, "num_res_blocks": 2} | unet
    kind = "VQModelInterface" if "n_embed" in stage else "AutoencoderKL"
    key, target, params = condition or (None, "", {})
    encoders = "ldm.modules.encoders.modules"
    cond = {"target": f"{encoders}.{target}", "params": params}
    params = {
        "linear_start": 0.0015,
        "linear_end": 0.0195,
        "timesteps": 1000,
        "channels": channels,
        "conditioning_key": key,
        "unet_config": {"target": "openaimodel.UNetModel", "params": unet},
        "first_stage_config": {"target": f"ldm.models.autoencoder.{kind}", "params": stage},
        "cond_stage_config": cond if condition else "__is_unconditional__",
    }
    return {"model": {"target": "ddpm.LatentDiffusion", "params": params | options}}


FACES = {
    "model_channels": 224,
    "attention_resolutions": [8, 4, 2],
    "channel_mult": [1, 2, 3, 4],
    "num_head_channels": 32,
}
CHURCHES = {
    "model_channels": 192,
    "attention_resolutions": [1, 2, 4, 8],
    "channel_mult": [1, 2, 2, 4, 4],
    "num_heads": 8,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
IMAGENET_F8 = {
    "model_channels": 256,
    "attention_resolutions": [4, 2, 1],
    "channel_mult": [1, 2, 4],
    "num_head_channels": 32,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 512,
}
IMAGENET_F4 = IMAGENET_F8 | {
    "model_channels": 192,
    "attention_resolutions": [8, 4, 2],
    "channel_mult": [1, 2, 3, 5],
    "num_head_channels": -1,
    "num_heads": 1,
}
TEXT = IMAGENET_F8 | {
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": -1,
    "num_heads": 8,
    "context_dim": 1280,
    "use_checkpoint": True,
    "legacy": False,
}
INPAINTING = {
    "in_channels": 7,
    "model_channels": 256,
    "attention_resolutions": [8, 4, 2],
    "channel_mult": [1, 2, 3, 4],
    "num_heads": 8,
    "resblock_updown": True,
}
SEMANTIC = {
    "in_channels": 6,
    "model_channels": 128,
    "attention_resolutions": [32, 16, 8],
    "channel_mult": [1, 4, 8],
    "num_heads": 8,
}
CLASS = ("crossattn", "ClassEmbedder", {"embed_dim": 512, "key": "class_label"})
CLASS_OR_NONE = ("crossattn", "ClassEmbedder", CLASS[2] | {"n_classes": 1001})
CAPTION = ("crossattn", "BERTEmbedder", {"n_embed": 1280, "n_layer": 32})
LABELS = ("concat", "SpatialRescaler", {"n_stages": 2, "in_channels": 182, "out_channels": 3})
CHURCHES_MODEL = diffusion(KL_F8, CHURCHES, linear_end=0.0155, loss_type="l1", scale_by_std=True)
DIFFUSION = {
    **dict.fromkeys(
        (
            "configs__latent-diffusion__celebahq-ldm-vq-4",
            "configs__latent-diffusion__ffhq-ldm-vq-4",
            "configs__latent-diffusion__lsun_bedrooms-ldm-vq-4",
            "models__ldm__celeba256",
            "models__ldm__ffhq256",
        ),
        diffusion(VQ_F4, FACES),
    ),
    "configs__latent-diffusion__lsun_churches-ldm-kl-8": CHURCHES_MODEL,
    "models__ldm__lsun_churches256": CHURCHES_MODEL,
    "configs__latent-diffusion__cin-ldm-vq-f8": diffusion(VQ_F8, IMAGENET_F8, CLASS),
    "models__ldm__cin256": diffusion(VQ_F8, IMAGENET_F8, CLASS),
    "configs__latent-diffusion__cin256-v2": diffusion(VQ_F4, IMAGENET_F4, CLASS_OR_NONE),
    "configs__latent-diffusion__txt2img-1p4B-eval": diffusion(
        KL_F8, TEXT, CAPTION, linear_start=0.00085, linear_end=0.012, scale_factor=0.18215
    ),
    "models__ldm__inpainting_big": diffusion(
        VQ_F4_NOATTN,
        INPAINTING,
        conditioning_key="concat",
        cond_stage_config="__is_first_stage__",
        linear_end=0.0205,
        loss_type="l1",
    ),
    "models__ldm__semantic_synthesis256": diffusion(
        VQ_F4, SEMANTIC, LABELS, linear_end=0.0205, loss_type="l1"
    ),
}
KL_F16 = FIRST_STAGES["models__first_stage_models__kl-f16"]
TRANSFORMER = {"use_spatial_transformer": True, "transformer_depth": 1, "num_head_channels": 32}
SUPER_RESOLUTION = {
    "in_channels": 6,
    "model_channels": 160,
    "attention_resolutions": [16, 8],
    "channel_mult": [1, 2, 2, 4],
    "num_head_channels": 32,
}
LAYOUT = FACES | TRANSFORMER | {"model_channels": 128, "transformer_depth": 3, "context_dim": 512}
CAPTIONS_F4 = IMAGENET_F4 | {"num_head_channels": 32, "num_heads": -1, "context_dim": 640}
RETRIEVAL = (
    FACES
    | TRANSFORMER
    | {
        "model_channels": 448,
        "attention_resolutions": [4, 2, 1],
        "context_dim": 768,
    }
)
BOXES = {
    "n_embed": 512,
    "n_layer": 16,
    "vocab_size": 8192,
    "max_seq_len": 92,
    "use_tokenizer": False,
}
# First stage, U-Net and conditioner of the models without a published list of keys; parameters
# of the U-Net, of the conditioner and of all; tensors in the checkpoint, averages included.
COUNTED: dict[str, tuple[Any, ...]] = {
    "bsr_sr": (
        VQ_F4, SUPER_RESOLUTION, ("concat", "Identity", {}),
        113_622_563, 0, 168_945_345, 831,
    ),
    "layout2img-openimages256": (
        VQ_F4, LAYOUT, ("crossattn", "BERTEmbedder", BOXES),
        246_277_379, 58_858_496, 360_458_657, 3089,
    ),
    "text2img256": (
        VQ_F4, CAPTIONS_F4, ("crossattn", "BERTEmbedder", {"n_embed": 640, "n_layer": 32}),
        403_623_939, 186_154_682, 645_101_403, 2017,
    ),
    "retrieval-augmented-768x768": (
        KL_F16, RETRIEVAL, ("crossattn", "Identity", {}),
        1_335_480_400, 0, 1_405_091_363, 1732,
    ),
    "semantic_synthesis512": (
        VQ_F4, SEMANTIC, LABELS,
        215_229_315, 546, 270_552_643, 652,
    ),
}  # fmt: skip
