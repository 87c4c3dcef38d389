"""Stage two: training the diffusion model on the frozen codec's latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from ldmlab.core.random import Noise, SampleNoise, derive_seed
from ldmlab.core.records import Batch, LossTerms
from ldmlab.diffusion.timestep_sampler import LossSecondMoment
from ldmlab.models.latent_diffusion import LatentDiffusion
from ldmlab.training.ema import EMA, Decay
from ldmlab.training.optimizers.factories import OptimizerFactory
from ldmlab.training.optimizers.lr_schedules import LRSchedule
from ldmlab.training.step_module import StepModule, StepTerms


class DiffusionModule(StepModule):
    """The simple loss on noised latents, with an average of the trained weights.

    Args:
        model: Codec, network and process; only the network is trained.
        optimizer: Makes the network's optimiser.
        lr_schedule: Factor of the learning rate.
        ema: Decay of the average, or of several, the first of which is shown and evaluated.
        seed: Seed of the run.
        max_steps: Number of steps to train for.
        accumulate_grad_batches: Parts that a batch is taken in.
    """

    trained = ("network",)
    monitor = "val/loss"
    mode = "min"

    def __init__(
        self,
        model: LatentDiffusion,
        optimizer: OptimizerFactory,
        lr_schedule: LRSchedule,
        ema: Decay | Sequence[Decay],
        seed: int = 0,
        max_steps: int = 1000,
        accumulate_grad_batches: int = 1,
    ) -> None:
        super().__init__(seed, max_steps, accumulate_grad_batches)
        self.model = model
        self.ema = EMA(model.network, *(ema if isinstance(ema, Sequence) else [ema]))
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule

    @property
    def sharded(self) -> list[nn.Module]:
        """U-Net and conditioner, each called by itself, and their averages."""
        networks = (self.model.network, self.ema.network, *self.ema.others)
        return [part for network in networks for part in network.children()]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimiser over U-Net and conditioner."""
        return self.scheduled(self.optimizer(self.model.network), self.lr_schedule)

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        """The loss."""
        terms = self.model.loss(batch, noise)
        loss = terms.per_sample.mean()
        self._remember(terms)
        return StepTerms(loss, {"loss": loss})

    def _remember(self, terms: LossTerms) -> None:
        """Let times that learn from losses see those of all processes."""
        times = self.model.process.timestep_sampler
        if isinstance(times, LossSecondMoment):
            t, losses = self.all_gather((terms.t, terms.unweighted))
            times.observe(t.flatten(), losses.flatten())

    def advance(self) -> None:
        """Count the step, and let the average follow before anything is saved."""
        super().advance()
        self.ema.update(self.model.network)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The averaged network's loss with the same noise at every validation."""
        noise = SampleNoise(derive_seed("validation", self.seed), batch.index.tolist())
        with self.averaged():
            loss = self.model.loss(batch, noise).per_sample.mean()
        self.log_mean("val/loss", loss, len(batch))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the averaged network take the trained one's place in the model."""
        trained, self.model.network = self.model.network, self.ema.network
        try:
            yield
        finally:
            self.model.network = trained
