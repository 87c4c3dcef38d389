"""Checks that both stages of an experiment can be built, before any data is read."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from torch import nn

from ldmlab.apps.build.experiment import build_lr_schedule, build_optimizer
from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.config.instantiate import build
from ldmlab.core.errors import UserError
from ldmlab.core.image_size import shown_size
from ldmlab.core.records import DataSpec
from ldmlab.models.blueprint import Blueprint


def _check_patches(cfg: DictConfig, discriminator: nn.Module, spec: DataSpec) -> None:
    """Let the discriminator see an image now: training meets it after many steps.

    Raises:
        UserError: The images are smaller than what it looks at.
    """
    discriminator.train(False)  # a single image has statistics of its own
    try:
        with torch.device("meta"):
            discriminator(torch.zeros(2, spec.image_channels, *spec.frame))
    except RuntimeError as error:
        raise UserError(
            f"images of data.image_size={shown_size(spec.image_size)} pixels are too small for the "
            f"discriminator of {cfg.discriminator.discriminator.get('num_layers')} layers: lower "
            "discriminator.discriminator.num_layers, or take discriminator=none"
        ) from error


def check_experiment(cfg: DictConfig) -> Blueprint:
    """Build all that both stages are made of, without memory behind their weights.

    Args:
        cfg: A composed configuration.

    Returns:
        What was built.

    Raises:
        UserError: Something does not build, or does not go together.
    """
    blueprint = draw_blueprint(cfg)
    with torch.device("meta"):
        weights = nn.Linear(2, 2)
    if blueprint.codec.learned:
        if blueprint.discriminator is not None:
            with torch.device("meta"):
                build(cfg.discriminator, discriminator=blueprint.discriminator)
            _check_patches(cfg, blueprint.discriminator, blueprint.spec)
        stage = cfg.stages.autoencoder
        for rate in (stage.lr, stage.discriminator_lr):
            build_optimizer(cfg, stage, rate)(weights)
        build_lr_schedule(cfg, stage)(0)
    if blueprint.process is not None:
        stage = cfg.stages.diffusion
        build_optimizer(cfg, stage, stage.lr)(weights)
        build_lr_schedule(cfg, stage)(0)
        build(stage.ema)
        build(cfg.sampler).timesteps(blueprint.process.schedule)
        build(cfg.guidance)
        build(cfg.evaluation)
    return blueprint
