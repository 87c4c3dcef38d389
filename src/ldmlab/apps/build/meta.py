"""Builds an experiment on the `meta` device: all sizes, no memory."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_codec, build_network, build_process, data_spec
from ldmlab.apps.config.instantiate import build
from ldmlab.models.blueprint import Blueprint, Training


def draw_blueprint(cfg: DictConfig) -> Blueprint:
    """Build an experiment on `meta`; no data is read.

    Raises:
        UserError: The configuration does not build.
    """
    spec = data_spec(cfg)
    network = process = discriminator = None
    with torch.device("meta"):
        codec = build_codec(cfg, spec)
        if codec.learned and cfg.discriminator is not None:
            discriminator = build(cfg.discriminator.discriminator, in_channels=spec.image_channels)
    if cfg.stage == "autoencoder":
        codec.requires_grad_(True)  # it is what the experiment trains
    else:
        process = build_process(cfg)  # its tables are numbers, not weights
        with torch.device("meta"):
            network = build_network(cfg, spec, codec, process)
    numbers = cfg.stages.autoencoder if network is None else cfg.stages.diffusion
    training = Training(
        float(numbers.lr), numbers.batch_size, numbers.max_steps, str(numbers.precision)
    )
    return Blueprint(str(cfg.name), spec, codec, network, process, discriminator, training)
