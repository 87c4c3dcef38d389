"""Checks that both stages of an experiment can be built, before any data is read."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from torch import nn

from ldmlab.apps.build.experiment import build_lr_schedule, build_optimizer
from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.config.instantiate import build


def check_experiment(cfg: DictConfig) -> None:
    """Build all that both stages are made of, without memory behind their weights.

    Args:
        cfg: A composed configuration.

    Raises:
        UserError: Something does not build, or does not go together.
    """
    blueprint = draw_blueprint(cfg)
    with torch.device("meta"):
        weights = nn.Linear(2, 2)
    if blueprint.codec.learned:
        if blueprint.discriminator is not None:
            build(cfg.discriminator, discriminator=blueprint.discriminator)
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
