"""A model as the leaves of a configuration: plain tables that build the same model again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.given import GivenConditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.conditioning.text import TextConditioner
from ldmlab.core.errors import UserError
from ldmlab.core.image_size import ImageSize
from ldmlab.core.records import DataSpec
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.schedule import (
    Schedule,
    TableSchedule,
    cosine,
    from_betas,
    linear,
    scaled_linear,
)
from ldmlab.interop.common.introspect import (
    autoencoder_options,
    bottleneck_options,
    conditioner_options,
    unet_options,
)
from ldmlab.models.latent_diffusion import LatentDiffusion
from ldmlab.nn.unet import UNet

Leaf = dict[str, Any]

# What the builder works out from codec, conditioner and data.
_WIRED = (
    *("in_channels", "out_channels", "token_dim", "vector_dim", "image_channels"),
    *("num_classes", "num_labels", "factor", "vocabulary"),
)
# Digits that survive the square and the square root of a scaled schedule.
_DIGITS = 12


def leaf(target: Callable[..., Any], /, **options: Any) -> Leaf:
    """A node that calls `target` with `options`."""
    return {"_target_": f"{target.__module__}.{target.__qualname__}", **options}


def leaves_of(model: LatentDiffusion) -> dict[str, Any]:
    """Every group of a configuration that describes a latent diffusion model.

    Raises:
        UserError: A part can be described by no leaf.
    """
    codec, network = model.codec, model.network
    conditioner = network.conditioner
    if isinstance(conditioner, MaskConditioner) and conditioner.factor != codec.factor:
        raise UserError(
            f"this model's masks shrink by {conditioner.factor} and its images by {codec.factor}: "
            "no run does so"
        )
    return {
        **(autoencoder_leaves(codec.autoencoder) if isinstance(codec, NormalizedCodec) else {}),
        "codec": {"module": leaf(type(codec), _partial_=True)},
        "network": leaf(UNet, **_free(unet_options(network.backbone))),
        "conditioner": conditioner_leaf(conditioner),
        **process_leaves(model.process),
        "stages": {
            "diffusion": {
                "loss_type": model.process.loss_type,
                "condition_dropout": model.condition_dropout,
            }
        },
    }


def autoencoder_leaves(autoencoder: Autoencoder) -> dict[str, Leaf]:
    """The groups that describe an autoencoder."""
    bottleneck = autoencoder.bottleneck
    return {
        "autoencoder": leaf(Autoencoder, **_free(autoencoder_options(autoencoder))),
        "bottleneck": leaf(type(bottleneck), **bottleneck_options(bottleneck)),
    }


def conditioner_leaf(conditioner: Conditioner) -> Leaf:
    """The group `conditioner`; the sizes of its tables are the data's, see `spec_of`.

    Raises:
        UserError: No data here holds such a condition.
    """
    if isinstance(conditioner, GivenConditioner):
        raise UserError(
            f"this model is conditioned on {conditioner.what}, which no data of a run holds: "
            "load it in Python with ldmlab.interop"
        )
    made: Any = type(conditioner)
    return leaf(made.for_data, **_free(conditioner_options(conditioner)))


def process_leaves(process: DiffusionProcess) -> dict[str, Leaf]:
    """The groups that describe a diffusion process."""
    return {
        "schedule": schedule_leaf(process.schedule),
        "parameterization": _plain(process.parameterization),
        "weighting": _plain(process.weighting),
        "timestep_sampler": _plain(process.timestep_sampler),
    }


def schedule_leaf(schedule: Schedule) -> Leaf:
    """The group `schedule`: a known curve where the table is one, else the table itself."""
    if not isinstance(schedule, TableSchedule):
        return _plain(schedule)
    steps = len(schedule.betas)
    ends = {
        "beta_start": _rounded(float(schedule.betas[0])),
        "beta_end": _rounded(float(schedule.betas[-1])),
    }
    for maker, options in ((scaled_linear, ends), (linear, ends), (cosine, {})):
        if torch.equal(maker(steps, **options).betas, schedule.betas):
            return leaf(maker, num_steps=steps, **options)
    return leaf(from_betas, betas=schedule.betas.tolist())


def spec_of(codec: Codec, conditioner: Conditioner | None, image_size: ImageSize) -> DataSpec:
    """What a model must know of its data, read off the model."""
    known: dict[str, Any] = {}
    match conditioner:
        case ClassConditioner():
            known["num_classes"] = conditioner.num_classes
        case MaskConditioner():
            known["num_mask_labels"] = conditioner.num_labels
        case TextConditioner():
            known["vocabulary"] = tuple(conditioner.tokenizer.vocabulary)
    channels = codec.latent_channels
    if isinstance(codec, NormalizedCodec):
        channels = codec.autoencoder.image_channels
    return DataSpec(image_size, channels, **known)


def _free(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _WIRED}


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


def _plain(part: Any) -> Any:
    """A small object whose attributes are its constructor's arguments."""
    if isinstance(part, list | tuple):
        return [_plain(item) for item in part]
    if part is None or isinstance(part, bool | int | float | str):
        return part
    public = {name: value for name, value in vars(part).items() if not name.startswith("_")}
    return leaf(type(part), **{name: _plain(value) for name, value in public.items()})
