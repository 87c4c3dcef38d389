"""Stage one: training the autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import Latent
from ldmlab.autoencoding.losses import ReconstructionLoss
from ldmlab.core.records import Batch
from ldmlab.training.lr_schedules import LRSchedule
from ldmlab.training.optimizers import OptimizerFactory
from ldmlab.training.steps import StepModule


class AutoencoderModule(StepModule):
    """Reconstruction, perception and bottleneck against a patch discriminator.

    Both networks learn from one backward pass, each with its own optimiser, so that distributed
    training meets every parameter exactly once a step.

    Args:
        autoencoder: What is trained.
        loss: Reconstruction, perception and bottleneck.
        adversary: The discriminator and its game; None for training without one.
        optimizer: Makes the autoencoder's optimiser.
        discriminator_optimizer: Makes the discriminator's optimiser.
        lr_schedule: Factor of both learning rates.
        seed: Seed of the run.
        max_steps: Number of steps to train for.
    """

    trained = ("autoencoder", "discriminator")

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
    ) -> None:
        super().__init__(seed, max_steps)
        self.automatic_optimization = False
        self.autoencoder = autoencoder
        self.loss = loss
        self.adversary = adversary
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.lr_schedule = lr_schedule

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """One optimiser and schedule for each network."""
        pairs = [(self.optimizer, self.autoencoder)]
        if self.adversary is not None:
            pairs.append((self.discriminator_optimizer, self.adversary))
        return [self.scheduled(make(n), self.lr_schedule) for make, n in pairs]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of both networks; returns the loss to show."""
        image = batch.image
        latent = self.autoencoder.encode(image)
        reconstruction = self.autoencoder.reconstruct(latent.sample(self.noise(batch)))
        terms = self.loss(image, reconstruction, latent.regularizer())
        logs = {name: getattr(terms, name) for name in ("pixel", "perceptual", "regularizer")}
        total = terms.total
        playing = self.adversary is not None and self.step >= self.adversary.start
        if self.adversary is not None and not playing:
            total = total + self.adversary.idle()
        elif self.adversary is not None:
            game = self.adversary(
                image, reconstruction, terms.likelihood, self.autoencoder.last_layer, self._average
            )
            total = total + game.generator + game.discriminator
            logs |= {
                "discriminator": game.discriminator,
                "adversarial_weight": game.weight,
                "logits_real": game.real,
                "logits_fake": game.fake,
            }
        self._descend(total, 1 + playing)
        logs = {name: value.detach() for name, value in logs.items()}
        self.log_dict({f"train/{name}": value for name, value in logs.items()})
        return {"loss": terms.total.detach()} | logs

    def _descend(self, total: Tensor, players: int) -> None:
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        schedules = schedules if isinstance(schedules, list) else [schedules]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(total)
        # A network that does not play yet keeps its schedule for when it does.
        for optimizer, schedule in zip(optimizers[:players], schedules[:players], strict=True):
            optimizer.step()
            schedule.step()

    def _average(self, gradient: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(gradient.clone(), reduce_op="mean")

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Latent]:
        """Reconstruction of unseen images; returns their latents."""
        latent = self.autoencoder.encode(batch.image)
        reconstruction = self.autoencoder.decode(latent.moments().mean)
        error = (reconstruction.clamp(-1, 1) - batch.image).square().flatten(1).mean(1)
        psnr = (-10 * torch.log10(error / 4)).mean()
        self.log("val/psnr", psnr, batch_size=len(batch), sync_dist=True)
        return {"latent": latent}
