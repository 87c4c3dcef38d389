"""Diagnostics of the autoencoder stage: bottleneck and adversary, with warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from ldmlab.autoencoding.bottlenecks import Latent

FEW_CODES = 0.05
DEAD_CHANNEL = 1e-3
HUGE_WEIGHT = 1e3
# The discriminator's loss where it has won; the distance of its logits where it sees nothing.
WON, BLIND = 0.02, 0.02
_ADVERSARIAL = ("discriminator", "adversarial_weight", "logits_real", "logits_fake")


class AutoencoderHealth(L.Callback):
    """Logs each validation's summary of the bottleneck and warns, once each, with a mend.

    The first validation, of a network that knows little, warns of nothing.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._warned: set[str] = set()
        self._first = True
        self._sums: dict[str, Tensor] = {}
        self._latent: type[Latent] | None = None
        self._adversarial: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        *args: Any,
    ) -> None:
        """Remember the adversarial terms, without asking the device for their numbers."""
        if "adversarial_weight" in outputs:
            self._adversarial.append({name: outputs[name] for name in _ADVERSARIAL})

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Add a batch's latents to the sums."""
        latent: Latent = outputs["latent"]
        self._latent = type(latent)
        for name, value in latent.sums().items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the summary and say what is wrong."""
        assert self._latent is not None
        sums = {
            name: trainer.strategy.reduce(value, reduce_op="sum")
            for name, value in self._sums.items()
        }
        summary = self._latent.summary(sums)
        pl_module.log_dict({f"val/{name}": value for name, value in summary.items()})
        adversarial = {
            name: float(torch.stack([step[name] for step in self._adversarial]).mean())
            for name in (_ADVERSARIAL if self._adversarial else ())
        }
        self._sums, self._adversarial = {}, []
        first, self._first = self._first, False
        if trainer.is_global_zero and not first:
            for trouble, words in troubles(summary, adversarial):
                if trouble not in self._warned:
                    self._warned.add(trouble)
                    self._console.print(f"[yellow]warning:[/] {words}")


def troubles(
    summary: Mapping[str, float], adversarial: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """What is wrong by a validation's figures and the adversarial terms' means since the last."""
    if summary.get("codes_used", 1) < FEW_CODES:
        yield (
            "codes",
            f"{summary['codes_used']:.1%} of the codes are in use (perplexity "
            f"{summary['perplexity']:.1f}): lower stages.autoencoder.lr, or take fewer codes "
            "with bottleneck.num_codes",
        )
    channels = [nats for name, nats in summary.items() if name.startswith("kl/")]
    dead = sum(nats < DEAD_CHANNEL for nats in channels)
    # One or two left over do no harm; half of them speak of a weight that is too strong.
    if channels and dead >= len(channels) / 2:
        yield (
            "channels",
            f"{dead} of {len(channels)} latent channels carry next to nothing: lower "
            "bottleneck.weight, or take fewer with bottleneck.latent_channels",
        )
    if not adversarial:
        return
    if adversarial["adversarial_weight"] > HUGE_WEIGHT:
        yield (
            "weight",
            "the adaptive weight of the adversary has risen to "
            f"{adversarial['adversarial_weight']:.0f}: the discriminator gives next to no "
            "gradient; lower stages.autoencoder.discriminator_lr or discriminator.weight",
        )
    if adversarial["discriminator"] < WON:
        yield (
            "won",
            "the discriminator tells every patch apart (its loss is "
            f"{adversarial['discriminator']:.3f}): lower stages.autoencoder.discriminator_lr, or "
            "raise discriminator.start",
        )
    elif adversarial["logits_real"] - adversarial["logits_fake"] < BLIND:
        yield (
            "blind",
            "the discriminator sees no difference (its logits are "
            f"{adversarial['logits_real']:.3f} for images and {adversarial['logits_fake']:.3f} for "
            "reconstructions): raise stages.autoencoder.discriminator_lr, or give it more channels",
        )
