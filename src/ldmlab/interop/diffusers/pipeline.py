"""A latent diffusion model as a folder in the layout of a diffusers pipeline.

Where the latents' normalisation is one scale, an unconditional model is diffusers' own
LDMPipeline, one of captions in the published shape its LDMTextToImagePipeline, and one without an
autoencoder its DDIMPipeline; every other model travels with a `pipeline.py`. Means and deviations
of channels lie in the configuration of an AutoencoderKL (`latents_mean`, `latents_std`) and,
since a VQModel has no place for them, in model_index.json.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldmlab.autoencoding.bottlenecks import VQ
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.none import Unconditional
from ldmlab.conditioning.text import TextConditioner
from ldmlab.core.errors import UserError
from ldmlab.core.files import write_json
from ldmlab.core.image_size import ImageSize, height_and_width, plain_size
from ldmlab.core.pixel_values import PixelValues
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.interop.common.introspect import conditioner_options
from ldmlab.interop.common.key_map import Renaming
from ldmlab.interop.diffusers.autoencoder import autoencoder_config, autoencoder_layers
from ldmlab.interop.diffusers.bert import fits_stock_pipeline, write_bert
from ldmlab.interop.diffusers.conditioner import KINDS, conditioner_layers
from ldmlab.interop.diffusers.scheduler import scheduler_config
from ldmlab.interop.diffusers.unet import unet_config, unet_layers
from ldmlab.models.latent_diffusion import LatentDiffusion
from ldmlab.nn.unet import UNet

EIGHT_BITS = PixelValues()


def diffusers() -> Any:
    """The package, imported when it is needed.

    Raises:
        UserError: It is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UserError("this needs diffusers: pip install 'ldmlab[export]'") from error
    return diffusers


def write_pipeline(
    model: LatentDiffusion,
    image_size: ImageSize,
    folder: Path,
    sampler: Sampler | None = None,
    values: PixelValues = EIGHT_BITS,
) -> None:
    """Write a model as a folder that `DiffusionPipeline.from_pretrained` loads.

    Args:
        model: The model with the weights to take out.
        image_size: Side of its images in pixels, or height and width.
        folder: Where to write; it exists and is empty.
        sampler: How the pipeline steps by default, see `scheduler_config`.
        values: What the numbers in the files of its data mean; others than 8 bits travel with
            the pipeline, whose `output_type="values"` gives them.

    Raises:
        UserError: A part has no counterpart in diffusers; the option is named.
    """
    height, width = height_and_width(image_size)
    size = plain_size((height // model.codec.factor, width // model.codec.factor))
    scheduler = diffusers().DDIMScheduler(**scheduler_config(model.process, sampler))
    conditioner = model.network.conditioner
    parts: dict[str, Any] = {
        "unet": to_diffusers_unet(model.network.backbone, size),
        "scheduler": scheduler,
    }
    normalization = None
    if isinstance(model.codec, NormalizedCodec):
        parts["vae"], normalization = to_diffusers_vae(model.codec, image_size)
    # Diffusers' own draw pictures of bytes only, and with an autoencoder squares only.
    pictures = values == EIGHT_BITS and _image_channels(model.codec) in (1, 3)
    stock = pictures and (height == width or "vae" not in parts)
    if isinstance(conditioner, Unconditional) and _is_stock(model.codec) and stock:
        _write_stock(parts, folder)
        return
    if _is_published_text(model) and stock:
        _write_published_text(parts, model.network.conditioner, folder)
        return
    if not isinstance(conditioner, Unconditional):
        parts["conditioner"] = to_exported_conditioner(conditioner)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    code = Path(__file__).with_name("exported")
    shutil.copyfile(code / "pipeline.py", folder / "pipeline.py")
    index: dict[str, Any] = {
        "_class_name": ["pipeline", "LatentDiffusionPipeline"],
        "_diffusers_version": diffusers().__version__,
        "normalization": normalization,
    }
    if values != EIGHT_BITS:
        index["values"] = {"bits": values.bits, "value_range": values.value_range}
    for name in ("vae", "unet", "scheduler", "conditioner"):
        library = "conditioner" if name == "conditioner" else "diffusers"
        present = name in parts
        index[name] = [library, type(parts[name]).__name__] if present else [None, None]
    if "conditioner" in parts:
        shutil.copyfile(code / "conditioner.py", folder / "conditioner" / "conditioner.py")
    write_json(folder / "model_index.json", index)


def to_diffusers_unet(unet: UNet, size: ImageSize | None = None) -> Any:
    """Diffusers' U-Net with the same weights.

    Args:
        unet: Ours.
        size: Side of the latents, or height and width.

    Raises:
        UserError: An option has no counterpart there.
    """
    package = diffusers()
    kind = package.UNet2DModel if unet.token_dim is None else package.UNet2DConditionModel
    theirs = kind(**unet_config(unet), sample_size=size)
    return _filled(theirs, Renaming(unet, unet_layers(unet)))


def to_diffusers_vae(codec: NormalizedCodec, size: ImageSize) -> tuple[Any, dict[str, Any] | None]:
    """Diffusers' autoencoder with the same weights, and statistics that it has no place for.

    Args:
        codec: Ours, with its normalisation.
        size: Side of the images, or height and width.

    Raises:
        UserError: An option has no counterpart there.
    """
    autoencoder = codec.autoencoder
    codebook = isinstance(autoencoder.bottleneck, VQ)
    config = autoencoder_config(autoencoder) | {"sample_size": size}
    normalization = None
    if _has_one_scale(codec):
        config["scaling_factor"] = 1 / float(codec.scale.flatten()[0])
    else:
        config["scaling_factor"] = 1.0
        mean, std = codec.shift.flatten().tolist(), codec.scale.flatten().tolist()
        if codebook:
            normalization = {"mean": mean, "std": std}
        else:
            config |= {"latents_mean": mean, "latents_std": std}
    kind = diffusers().VQModel if codebook else diffusers().AutoencoderKL
    layers = autoencoder_layers(autoencoder)
    return _filled(kind(**config), Renaming(autoencoder, layers)), normalization


def to_exported_conditioner(conditioner: Conditioner) -> Any:
    """The class that travels with the pipeline, with the same weights.

    Raises:
        UserError: There is none for this conditioner.
    """
    from ldmlab.interop.diffusers.exported import conditioner as exported

    name = type(conditioner).__name__
    if name not in KINDS:
        raise UserError(
            f"conditioner={name} has no counterpart in an exported pipeline: only "
            f"{', '.join(KINDS)} have one"
        )
    theirs = getattr(exported, name)(**conditioner_options(conditioner))
    return _filled(theirs, Renaming(conditioner, conditioner_layers(conditioner)))


def _filled(theirs: nn.Module, renaming: Renaming) -> nn.Module:
    theirs.load_state_dict(renaming.published(), strict=True)
    return theirs.eval()


def _image_channels(codec: Codec) -> int:
    if isinstance(codec, NormalizedCodec):
        return codec.autoencoder.image_channels
    return codec.latent_channels


def _has_one_scale(codec: NormalizedCodec) -> bool:
    return bool((codec.scale == codec.scale.flatten()[0]).all()) and not torch.any(codec.shift)


def _is_stock(codec: Codec) -> bool:
    return not isinstance(codec, NormalizedCodec) or _has_one_scale(codec)


def _is_published_text(model: LatentDiffusion) -> bool:
    conditioner = model.network.conditioner
    # The pipeline counts latents as eighths of pixels.
    eighths = isinstance(model.codec, NormalizedCodec) and model.codec.factor == 8
    text = isinstance(conditioner, TextConditioner) and fits_stock_pipeline(conditioner)
    return text and eighths and _is_stock(model.codec)


def _write_published_text(parts: dict[str, Any], conditioner: Conditioner, folder: Path) -> None:
    assert isinstance(conditioner, TextConditioner)
    parts["vqvae"] = parts.pop("vae")
    index: dict[str, Any] = {
        "_class_name": "LDMTextToImagePipeline",
        "_diffusers_version": diffusers().__version__,
        "bert": ["latent_diffusion", "LDMBertModel"],
        "tokenizer": ["transformers", "BertTokenizer"],
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    write_bert(conditioner, folder)
    write_json(folder / "model_index.json", index)


def _write_stock(parts: dict[str, Any], folder: Path) -> None:
    package = diffusers()
    if "vae" in parts:
        parts["vqvae"] = parts.pop("vae")
    kind = package.LDMPipeline if "vqvae" in parts else package.DDIMPipeline
    kind(**parts).save_pretrained(folder)
