"""The objects of an experiment, for a notebook or a program of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from omegaconf import DictConfig

from ldmlab.api.pipeline import Pipeline
from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_data,
    build_diffusion_module,
    build_model,
)
from ldmlab.apps.config.instantiate import build as instantiate
from ldmlab.apps.stages.codec import normalize
from ldmlab.apps.stages.session import Session
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.codec import NormalizedCodec
from ldmlab.core.records import DataSpec
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.training.autoencoder_module import AutoencoderModule
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.diffusion_module import DiffusionModule


class Data(Protocol):
    """Both splits of a data set and what a model must know of it: a LightningDataModule by name."""

    train: BatchDataset
    validation: BatchDataset
    spec: DataSpec


@dataclass(frozen=True)
class Experiment:
    """An experiment's parts; a `lightning.Trainer` of any kind trains them.

    Attributes:
        cfg: The configuration.
        train: Training data.
        validation: Validation data.
        spec: What the models must know of the data.
        autoencoder_module: Stage one, with the untrained `autoencoder`; None for an experiment that
            diffuses pixels.
    """

    cfg: DictConfig
    train: BatchDataset
    validation: BatchDataset
    spec: DataSpec
    autoencoder_module: AutoencoderModule | None

    def datamodule(self, stage: str) -> BatchDataModule:
        """The data in a stage's batches.

        Args:
            stage: `autoencoder` or `diffusion`.
        """
        size, workers = self.cfg.stages[stage].batch_size, self.cfg.data.num_workers
        return BatchDataModule(self.train, self.validation, size, self.cfg.seed, workers)

    def diffusion_module(self, autoencoder: Autoencoder | None = None) -> DiffusionModule:
        """Stage two, untrained, on the latents of an autoencoder that is frozen from now on.

        Args:
            autoencoder: A trained one; that of `autoencoder_module` by default.

        Raises:
            UserError: Sizes do not fit together.
        """
        codec = instantiate(self.cfg.codec.module)
        if self.autoencoder_module is None:
            codec = codec(self.spec.image_channels)
        else:
            codec = codec(autoencoder or self.autoencoder_module.autoencoder)
        if isinstance(codec, NormalizedCodec):
            normalize(Session(self.cfg, self.train, self.validation, self.spec), codec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.cfg.seed)
            model = build_model(self.cfg, self.spec, codec)
        return build_diffusion_module(self.cfg, model)

    def pipeline(self, module: DiffusionModule) -> Pipeline:
        """What samples from a trained stage two, with its averaged weights.

        Args:
            module: The trained module, which is not changed.
        """
        network = module.ema.network
        assert isinstance(network, ConditionalNetwork)
        model = LatentDiffusion(module.model.codec, network, module.model.process).eval()
        sampler, guidance = instantiate(self.cfg.sampler), instantiate(self.cfg.guidance)
        return Pipeline(model, self.spec, sampler, guidance)


def build(cfg: DictConfig, data: Data | None = None) -> Experiment:
    """Build what a configuration describes, untrained.

    Args:
        cfg: A composed configuration.
        data: Data in the place of the configuration's, such as a `VistasDataModule`.

    Raises:
        UserError: The data is not there, or the configuration does not build.
    """
    if data is None:
        train, validation, spec = build_data(cfg)
    else:
        train, validation, spec = data.train, data.validation, data.spec
    module = None
    if instantiate(cfg.codec.module).func.learned:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            module = build_autoencoder_module(cfg, spec)
    return Experiment(cfg, train, validation, spec, module)
