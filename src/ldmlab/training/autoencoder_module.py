"""Stage one: training the autoencoder."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import Latent
from ldmlab.autoencoding.losses import ReconstructionLoss
from ldmlab.core.random import Noise
from ldmlab.core.records import Batch
from ldmlab.evaluation.metrics import psnr
from ldmlab.training.optimizers.factories import OptimizerFactory
from ldmlab.training.optimizers.lr_schedules import LRSchedule
from ldmlab.training.step_module import StepModule, StepTerms


class AutoencoderModule(StepModule):
    """Reconstruction, perception and bottleneck against a patch discriminator.

    Both networks learn from one backward pass, each with its own optimiser, so that distributed
    training meets every parameter exactly once a step.

    Args:
        autoencoder: What is trained.
        loss: Reconstruction, perception and bottleneck.
        adversary: The discriminator; None for training without one.
        optimizer: Makes the autoencoder's optimiser.
        discriminator_optimizer: Makes the discriminator's optimiser.
        lr_schedule: Factor of both learning rates.
        seed: Seed of the run.
        max_steps: Number of steps to train for.
        accumulate_grad_batches: Parts that a batch is taken in.
    """

    trained = ("autoencoder", "discriminator")
    monitor = "val/psnr"
    mode = "max"

    def __init__(
        self,
        autoencoder: Autoencoder,
        loss: ReconstructionLoss,
        adversary: Adversary | None,
        optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        lr_schedule: LRSchedule,
        seed: int = 0,
        max_steps: int = 1000,
        accumulate_grad_batches: int = 1,
    ) -> None:
        super().__init__(seed, max_steps, accumulate_grad_batches)
        self.autoencoder = autoencoder
        self.loss = loss
        self.adversary = adversary
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.lr_schedule = lr_schedule

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """One optimiser and schedule for each network."""
        pairs: list[tuple[OptimizerFactory, nn.Module]] = [(self.optimizer, self.autoencoder)]
        if self.adversary is not None:
            pairs.append((self.discriminator_optimizer, self.adversary))
        return [self.scheduled(make(n), self.lr_schedule) for make, n in pairs]

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        """The losses of the autoencoder and of the discriminator."""
        image = _images(batch)
        latent = self.autoencoder.encode(image)
        reconstruction = self.autoencoder.decode_as_given(latent.sample(noise))
        terms = self.loss(image, reconstruction, latent.regularizer())
        logs = {"loss": terms.total, "pixel": terms.pixel, "perceptual": terms.perceptual}
        logs["regularizer"] = terms.regularizer
        if self.adversary is None:
            return StepTerms(terms.total, logs)
        if self.step < self.adversary.start:
            return StepTerms(terms.total + self.adversary.zero_loss(), logs)
        adversarial = self.adversary(
            image, reconstruction, terms.likelihood, self.autoencoder.last_layer, self._average
        )
        logs |= {
            "discriminator": adversarial.discriminator,
            "adversarial_weight": adversarial.weight,
            "logits_real": adversarial.real,
            "logits_fake": adversarial.fake,
        }
        return StepTerms(
            terms.total + adversarial.generator + adversarial.discriminator,
            logs,
            num_active_optimizers=2,
        )

    def _average(self, gradient: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(gradient.clone(), reduce_op="mean")

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Latent]:
        """Reconstruction of unseen images; returns their latents."""
        image = _images(batch)
        latent = self.autoencoder.encode(image)
        ratio = psnr(self.autoencoder.reconstruct(latent), image).mean()
        self.log_mean("val/psnr", ratio, len(batch))
        return {"latent": latent}


def _images(batch: Batch) -> Tensor:
    if batch.image is None:
        raise ValueError("stage one needs images")
    return batch.image
