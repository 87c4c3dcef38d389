"""Image logging during training: reconstructions of stage one, samples of stage two."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL.Image import Image
from torch import Tensor

from ldmlab.core.image_grid import picture_grid, save_picture
from ldmlab.core.image_size import ImageSize
from ldmlab.core.random import SampleNoise, derive_seed
from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import Guidance
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.training.autoencoder_module import AutoencoderModule
from ldmlab.training.diffusion_module import DiffusionModule
from ldmlab.training.step_module import StepModule


class Pictures(L.Callback, ABC):
    """Saves a picture every so many steps, and hands it to the loggers that take pictures.

    Args:
        folder: Where PNG files go.
        every: Steps between two pictures.
        name: First part of the file names.
    """

    def __init__(self, folder: Path, every: int, name: str) -> None:
        self.folder = folder
        self.every = every
        self.name = name

    @abstractmethod
    def draw(self, module: Any) -> Image:
        """The picture of a module as it is now."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Draw when it is time."""
        assert isinstance(pl_module, StepModule)
        step = pl_module.step
        if step % self.every and step < pl_module.max_steps:
            return
        state = torch.get_rng_state()
        was_training = pl_module.training
        pl_module.eval()
        # On every process: each may hold but a part of the network.
        with torch.no_grad():
            picture = self.draw(pl_module)
        pl_module.train(was_training)
        torch.set_rng_state(state)
        if not trainer.is_global_zero:
            return
        save_picture(picture, self.folder / f"{self.name}-{step:06d}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(self.name, [picture], step=step)


class Reconstructions(Pictures):
    """Validation images above their reconstructions.

    Args:
        images: The images.
        folder: Where PNG files go.
        every: Steps between two pictures.
    """

    def __init__(self, images: Tensor, folder: Path, every: int) -> None:
        super().__init__(folder, every, "reconstructions")
        self.images = images

    def draw(self, module: AutoencoderModule) -> Image:
        """Pairs, one below the other."""
        images = self.images.to(module.device)
        autoencoder = module.autoencoder
        mirrored = autoencoder.reconstruct(autoencoder.encode(images))
        return picture_grid(torch.cat([images, mirrored]), columns=len(images), tile=96)


class Samples(Pictures):
    """Samples of the averaged network, always from the same noise and conditions.

    Args:
        conditions: What to ask for.
        image_size: Side of the images in pixels, or height and width.
        sampler: The steps from noise to data.
        guidance: How to strengthen the condition.
        seed: Seed of the noise.
        folder: Where PNG files go.
        every: Steps between two pictures.
    """

    def __init__(
        self,
        conditions: Batch,
        image_size: ImageSize,
        sampler: Sampler,
        guidance: Guidance,
        seed: int,
        folder: Path,
        every: int,
    ) -> None:
        super().__init__(folder, every, "samples")
        self.conditions = conditions
        self.image_size = image_size
        self.sampler = sampler
        self.guidance = guidance
        self.seed = seed

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse steps that do not fit the schedule now, not at the first picture."""
        assert isinstance(pl_module, DiffusionModule)
        self.sampler.timesteps(pl_module.model.process.schedule)

    def draw(self, module: DiffusionModule) -> Image:
        """A grid with captions."""
        noise = SampleNoise(derive_seed("pictures", self.seed), range(len(self.conditions)))
        conditions = self.conditions.to(module.device)
        with module.averaged():
            images = module.model.sample(
                conditions, self.image_size, self.sampler, noise, self.guidance
            )
        return picture_grid(images, self.conditions.caption)
