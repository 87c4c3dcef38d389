"""Train your own autoencoder and your own latent diffusion model.

`load` gives the model of a run; `compose` and `build` give the objects of an experiment, which
any `lightning.Trainer` trains. Names are imported when they are first asked for, for torch and
Lightning take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from ldmlab.api.experiment import Experiment as Experiment
    from ldmlab.api.experiment import build as build
    from ldmlab.api.pipeline import Pipeline as Pipeline
    from ldmlab.api.pipeline import load as load
    from ldmlab.apps.config.compose import compose as compose
    from ldmlab.autoencoding.autoencoder import Autoencoder as Autoencoder
    from ldmlab.core.errors import UserError as UserError
    from ldmlab.models.latent_diffusion import LatentDiffusion as LatentDiffusion
    from ldmlab.training.autoencoder_module import AutoencoderModule as AutoencoderModule
    from ldmlab.training.datamodules.images import CelebAHQDataModule as CelebAHQDataModule
    from ldmlab.training.datamodules.images import ImageFolderDataModule as ImageFolderDataModule
    from ldmlab.training.datamodules.images import ImageNetDataModule as ImageNetDataModule
    from ldmlab.training.datamodules.images import LandscapesDataModule as LandscapesDataModule
    from ldmlab.training.datamodules.laion import LaionDataModule as LaionDataModule
    from ldmlab.training.datamodules.toys import DigitsDataModule as DigitsDataModule
    from ldmlab.training.datamodules.toys import VistasDataModule as VistasDataModule
    from ldmlab.training.diffusion_module import DiffusionModule as DiffusionModule

_HOMES = {
    "load": "api.pipeline",
    "compose": "apps.config.compose",
    "build": "api.experiment",
    "Pipeline": "api.pipeline",
    "Experiment": "api.experiment",
    "UserError": "core.errors",
    "Autoencoder": "autoencoding.autoencoder",
    "LatentDiffusion": "models.latent_diffusion",
    "AutoencoderModule": "training.autoencoder_module",
    "DiffusionModule": "training.diffusion_module",
    "CelebAHQDataModule": "training.datamodules.images",
    "ImageNetDataModule": "training.datamodules.images",
    "LandscapesDataModule": "training.datamodules.images",
    "ImageFolderDataModule": "training.datamodules.images",
    "LaionDataModule": "training.datamodules.laion",
    "VistasDataModule": "training.datamodules.toys",
    "DigitsDataModule": "training.datamodules.toys",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ldmlab' has no attribute '{name}'")
    return getattr(import_module(f"ldmlab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
