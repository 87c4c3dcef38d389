"""Stage one: training the autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.autoencoder import Autoencoder
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
        clip_norm: Largest gradient norm of each network; None for no limit.
        seed: Seed of the run.
        max_steps: Number of steps to train for.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        loss: ReconstructionLoss,
        adversary: Adversary | None,
        optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        lr_schedule: LRSchedule,
        clip_norm: float | None = None,
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
        self.clip_norm = clip_norm

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
        networks: list[nn.Module] = [self.autoencoder]
        if self.adversary is not None and self.step < self.adversary.start:
            total = total + self.adversary.idle()
        elif self.adversary is not None:
            networks.append(self.adversary)
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
        self._descend(total, networks)
        self.log_dict({f"train/{name}": value.detach() for name, value in logs.items()})
        return {"loss": terms.total.detach()}

    def _descend(self, total: Tensor, networks: list[nn.Module]) -> None:
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        schedules = schedules if isinstance(schedules, list) else [schedules]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(total)
        # A network that does not play yet keeps its schedule for when it does.
        for optimizer, schedule, network in zip(optimizers, schedules, networks, strict=False):
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)
            optimizer.step()
            schedule.step()

    def _average(self, gradient: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(gradient.clone(), reduce_op="mean")

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Reconstruction of unseen images."""
        reconstruction = self.autoencoder.decode(
            self.autoencoder.encode(batch.image).moments().mean
        )
        error = (reconstruction.clamp(-1, 1) - batch.image).square().flatten(1).mean(1)
        self.log("val/psnr", (-10 * torch.log10(error / 4)).mean(), batch_size=len(batch))
