"""Builds the objects of both stages from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from torch import nn

from ldmlab.apps.config.instantiate import build
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.codec import Codec
from ldmlab.autoencoding.losses import ReconstructionLoss
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.vocabulary import SPECIALS
from ldmlab.core.errors import UserError
from ldmlab.core.image_size import divides, plain_size, shown_size
from ldmlab.core.records import DataSpec
from ldmlab.data.images.percentile import use_values
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.training.datamodules.prepare import prepare

if TYPE_CHECKING:  # Lightning takes seconds to import, and only training needs it
    from ldmlab.training.autoencoder_module import AutoencoderModule
    from ldmlab.training.diffusion_module import DiffusionModule


def build_data(cfg: DictConfig) -> tuple[BatchDataset, BatchDataset, DataSpec]:
    """Training data, validation data and what a model must know of them.

    Raises:
        UserError: The data is not there, or does not fit into memory where it should.
    """
    data = cfg.data
    return prepare(
        build(data.train),
        build(data.validation),
        data_spec(cfg),
        limit=data.limit,
        validation_limit=data.validation_limit,
        in_memory=data.in_memory and data.latents is None,
        vocabulary=data.get("vocabulary"),
        vocabulary_size=data.vocabulary_size,
    )


def data_spec(cfg: DictConfig) -> DataSpec:
    """What the configuration alone tells of the data: enough to build a model, nothing is read.

    Where the training captions make the vocabulary, its words are placeholders: their number is
    the one that `data.vocabulary_size` promises.
    """
    data = cfg.data
    vocabulary = None
    if data.vocabulary_size is not None:
        words = (f"[unused{k}]" for k in range(data.vocabulary_size - len(SPECIALS)))
        vocabulary = (*SPECIALS, *words)
    return DataSpec(
        plain_size(data.image_size),
        data.channels,
        data.num_classes,
        data.num_mask_labels,
        vocabulary,
        data.get("bits", 8),
    )


def build_validation(cfg: DictConfig, spec: DataSpec) -> BatchDataset:
    """Validation data alone, read as a model's training data was.

    Args:
        cfg: The configuration.
        spec: What the model knows of its data.
    """
    data: BatchDataset = build(cfg.data.validation)
    use_values(data, spec.value_range)
    return data


def build_autoencoder(cfg: DictConfig, spec: DataSpec) -> Autoencoder:
    """The autoencoder of an experiment.

    Raises:
        UserError: The images cannot be divided by its factor.
    """
    autoencoder: Autoencoder = build(
        cfg.autoencoder, bottleneck=build(cfg.bottleneck), image_channels=spec.image_channels
    )
    if not divides(spec.image_size, autoencoder.factor):
        raise UserError(
            f"data.image_size={shown_size(spec.image_size)} does not divide by "
            f"{autoencoder.factor}, by which the autoencoder makes images smaller: change it, or "
            "shorten autoencoder.channel_mult"
        )
    return autoencoder


def build_perceptual(cfg: DictConfig, spec: DataSpec) -> nn.Module:
    """The perceptual distance of stage one.

    Raises:
        UserError: It is none of images with so many channels.
    """
    distance: nn.Module = build(cfg.perceptual.distance)
    channels = getattr(distance, "channels", None)
    if channels is not None and spec.image_channels not in channels:
        raise UserError(
            f"{type(distance).__name__} compares images of {' or '.join(map(str, channels))} "
            f"channels, and data.channels={spec.image_channels}: take perceptual=none, or a "
            "perceptual.distance of your own"
        )
    return distance


def build_autoencoder_module(cfg: DictConfig, spec: DataSpec) -> AutoencoderModule:
    """Stage one, ready to train."""
    from ldmlab.training.autoencoder_module import AutoencoderModule

    stage = cfg.stages.autoencoder
    autoencoder = build_autoencoder(cfg, spec)
    adversary = None
    if cfg.discriminator is not None:
        discriminator = build(cfg.discriminator.discriminator, in_channels=spec.image_channels)
        adversary = build(cfg.discriminator, discriminator=discriminator)
    return AutoencoderModule(
        autoencoder,
        ReconstructionLoss(
            build_perceptual(cfg, spec),
            stage.loss_type,
            stage.reduction,
            cfg.perceptual.weight,
            autoencoder.bottleneck.weight,
        ),
        adversary,
        build_optimizer(cfg, stage, stage.lr),
        build_optimizer(cfg, stage, stage.discriminator_lr),
        build_lr_schedule(cfg, stage),
        cfg.seed,
        stage.max_steps,
        stage.accumulate_grad_batches,
    )


def build_codec(cfg: DictConfig, spec: DataSpec) -> Codec:
    """The codec of an experiment, its autoencoder untrained."""
    factory = build(cfg.codec.module)
    learned: bool = factory.func.learned
    return factory(build_autoencoder(cfg, spec) if learned else spec.image_channels)


def build_process(cfg: DictConfig) -> DiffusionProcess:
    """The diffusion process of an experiment.

    Raises:
        UserError: The parameterisation is singular on the schedule.
    """
    try:
        return DiffusionProcess(
            build(cfg.schedule),
            build(cfg.parameterization),
            build(cfg.weighting),
            build(cfg.timestep_sampler),
            cfg.stages.diffusion.loss_type,
        )
    except ValueError as error:
        raise UserError(f"parameterization and schedule do not go together: {error}") from error


def build_conditioner(cfg: DictConfig, spec: DataSpec, codec: Codec) -> Conditioner:
    """The conditioner of an experiment, untrained."""
    conditioner = build(cfg.conditioner, spec=spec, factor=codec.factor)
    if isinstance(conditioner, partial):
        # A plain function: a copy of the network, as for its average, copies no codec.
        conditioner = conditioner(encode=lambda image: codec.encode(image).mean)
    return conditioner


def build_network(
    cfg: DictConfig, spec: DataSpec, codec: Codec, process: DiffusionProcess
) -> ConditionalNetwork:
    """The network of an experiment, untrained, for the latents of a codec.

    Raises:
        UserError: The images cannot be divided by the codec and the U-Net's levels.
    """
    conditioner = build_conditioner(cfg, spec, codec)
    backbone = build(
        cfg.network,
        in_channels=codec.latent_channels + conditioner.map_channels,
        out_channels=codec.latent_channels * process.parameterization.outputs,
        token_dim=conditioner.token_dim,
        vector_dim=conditioner.vector_dim,
    )
    divisor = codec.factor * getattr(backbone, "factor", 1)  # a network of any size has none
    if not divides(spec.image_size, divisor):
        raise UserError(
            f"images of {shown_size(spec.image_size)} pixels do not divide by {divisor} (codec "
            f"{codec.factor} x U-Net levels): change data.image_size, or shorten "
            "network.channel_mult"
        )
    return ConditionalNetwork(backbone, conditioner)


def build_model(cfg: DictConfig, spec: DataSpec, codec: Codec) -> LatentDiffusion:
    """The latent diffusion model of an experiment, its network untrained.

    Raises:
        UserError: The images cannot be divided by the codec and the U-Net's levels.
    """
    process = build_process(cfg)
    network = build_network(cfg, spec, codec, process)
    return LatentDiffusion(codec, network, process, cfg.stages.diffusion.condition_dropout)


def build_diffusion_module(cfg: DictConfig, model: LatentDiffusion) -> DiffusionModule:
    """Stage two, ready to train."""
    from ldmlab.training.diffusion_module import DiffusionModule

    stage = cfg.stages.diffusion
    return DiffusionModule(
        model,
        build_optimizer(cfg, stage, stage.lr),
        build_lr_schedule(cfg, stage),
        build(stage.ema),
        cfg.seed,
        stage.max_steps,
        stage.accumulate_grad_batches,
    )


def learning_rate(cfg: DictConfig, stage: DictConfig, lr: float) -> float:
    """The rate of a whole global batch; `scale_lr=true` gives `lr` for one image in it."""
    return lr * stage.batch_size if cfg.scale_lr else lr


def build_optimizer(cfg: DictConfig, stage: DictConfig, lr: float) -> Callable[..., Any]:
    """A function from parameters to the optimiser of a stage."""
    numbers = {
        "lr": learning_rate(cfg, stage, lr),
        "betas": tuple(stage.betas),
        "weight_decay": stage.weight_decay,
    }
    return partial(build(cfg.optimizer), **numbers)


def build_lr_schedule(cfg: DictConfig, stage: DictConfig) -> Callable[[int], float]:
    """The factor of the learning rate of a stage."""
    schedule = build(cfg.lr_schedule)
    return schedule(total_steps=stage.max_steps, warmup_steps=stage.warmup_steps)
