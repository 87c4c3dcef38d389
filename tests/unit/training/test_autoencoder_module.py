"""Stage one: two optimisers, a late adversary, and what validation measures."""

from __future__ import annotations

import pytest
import torch
from tests.oracle.gaussian import BatchNoise
from tests.unit.training.toys import fit
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL
from ldmlab.autoencoding.losses import NoPerceptual, ReconstructionLoss
from ldmlab.core.random import Noise, SampleNoise
from ldmlab.core.records import Batch
from ldmlab.nn.discriminator import PatchDiscriminator
from ldmlab.training.autoencoder_module import AutoencoderModule
from ldmlab.training.optimizers.factories import OptimizerFactory, adam
from ldmlab.training.optimizers.lr_schedules import LRSchedule, constant
from ldmlab.training.step_module import StepTerms

IMAGES = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
BATCH = Batch(index=torch.arange(4), image=IMAGES)


class _Watched(AutoencoderModule):
    """Notes what each step begins with and says."""

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        assert self.adversary is not None
        self.before = getattr(self, "before", [])
        weights = self.adversary.discriminator.state_dict().values()
        self.before.append(torch.cat([value.flatten() for value in weights]))
        terms = super().terms(batch, noise)
        self.said = [*getattr(self, "said", []), terms]
        return terms


def _rate(lr: float) -> OptimizerFactory:
    return lambda network: adam(network, lr, (0.5, 0.9), 0.0)


def module(start: int = 2, max_steps: int = 5, lr_schedule: LRSchedule | None = None) -> _Watched:
    torch.manual_seed(0)
    return _Watched(
        Autoencoder(KL(2), 1, 32, (1, 1), num_res_blocks=1, middle_attention=False),
        ReconstructionLoss(NoPerceptual(), "l2", "mean_pixels", 0.0, 1e-3),
        Adversary(PatchDiscriminator(1, 8, 1, "group"), start, weight=0.5),
        _rate(1e-3),
        _rate(2e-4),
        lr_schedule or constant(max_steps, warmup_steps=4),
        max_steps=max_steps,
    )


@pytest.mark.parametrize(("step", "active"), [(0, False), (2, False), (3, True), (4, True)])
def test_adversary_begins_at_its_start(
    step: int, active: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(KL(2), channels=8, channel_mult=(1, 1), num_res_blocks=1)
    adversary = Adversary(PatchDiscriminator(3, 4, 2, norm="group"), start=3)
    loss = ReconstructionLoss(NoPerceptual())
    module = AutoencoderModule(autoencoder, loss, adversary, None, None, None)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_average", lambda gradient: gradient)
    module.steps.fill_(step)
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    terms = module.terms(Batch(torch.arange(2), image=image), BatchNoise())
    assert terms.num_active_optimizers == (2 if active else 1)
    assert ("discriminator" in terms.logs) == active
    terms.total.backward()
    slopes = [p.grad for p in adversary.parameters()]
    assert all(slope is not None for slope in slopes)
    assert any(bool(slope.any()) for slope in slopes if slope is not None) == active


def test_each_network_has_an_optimizer_with_its_own_rate() -> None:
    subject = module()
    optimizers = [config["optimizer"] for config in subject.configure_optimizers()]
    networks = (subject.autoencoder, subject.adversary)
    for optimizer, network, lr in zip(optimizers, networks, (1e-3, 2e-4), strict=True):
        (group,) = optimizer.param_groups
        assert group["initial_lr"] == lr
        assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()}


def test_adversary_starts_at_its_step_with_its_own_schedule() -> None:
    subject = module(start=2, max_steps=5)
    trainer = fit(subject, images=IMAGES)
    plays = ["discriminator" in terms.logs for terms in subject.said]
    assert plays == [False, False, True, True, True]
    still = [torch.equal(weights, subject.before[0]) for weights in subject.before]
    assert still == [True, True, True, False, False]
    # Adam's first step is as long as its rate: a fifth of it, for the warm-up begins here.
    first = (subject.before[3] - subject.before[2]).abs().median()
    assert float(first) == pytest.approx(2e-4 / 5, rel=0.05)
    assert [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs] == [5, 3]


def test_both_sides_of_the_game_are_descended() -> None:
    subject = module(start=0)
    subject._average = lambda gradient: gradient  # type: ignore[method-assign]
    terms = subject.terms(BATCH, SampleNoise(0, range(4)))
    adversary, logs = subject.adversary, terms.logs
    image, reconstruction = _seen(subject, SampleNoise(0, range(4)))
    real, fake = adversary.discriminator(image), adversary.discriminator(reconstruction)
    generator = -0.5 * logs["adversarial_weight"] * fake.mean()
    discriminator = 0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
    torch.testing.assert_close(logs["discriminator"], discriminator)
    torch.testing.assert_close(terms.total, logs["loss"] + generator + discriminator)
    assert terms.num_active_optimizers == 2
    assert abs(generator.item()) > 1e-3


def test_decoder_is_trained_on_draws_of_the_posterior() -> None:
    subject = module(start=9)
    pixel = [float(subject.terms(BATCH, SampleNoise(s, range(4))).logs["pixel"]) for s in (1, 2, 1)]
    image, reconstruction = _seen(subject, SampleNoise(1, range(4)))
    assert pixel[0] == pixel[2] == pytest.approx(float((image - reconstruction).square().mean()))
    assert pixel[1] != pytest.approx(pixel[0], rel=1e-4)


def _seen(subject: AutoencoderModule, noise: Noise) -> tuple[Tensor, Tensor]:
    """Images, and their reconstructions from mean + deviation x noise."""
    with torch.no_grad():
        moments = subject.autoencoder.moments(IMAGES)
        z = moments.mean + moments.std * noise.normal(moments.mean)
        return IMAGES, subject.autoencoder.decode_as_given(z)


def test_validation_logs_the_mean_psnr_of_posterior_means() -> None:
    subject, logged = module(), {}
    subject.log_mean = lambda name, value, count: logged.update({name: value})  # type: ignore
    outputs = subject.validation_step(BATCH, 0)
    autoencoder = subject.autoencoder
    with torch.no_grad():
        reconstruction = autoencoder.decode(autoencoder.moments(IMAGES).mean).clamp(-1, 1)
    expected = peak_signal_noise_ratio(reconstruction, IMAGES, data_range=2.0, dim=(1, 2, 3))
    assert float(logged["val/psnr"]) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(outputs["latent"].moments().mean, autoencoder.moments(IMAGES).mean)


def test_validation_is_a_mean_over_images_however_they_are_batched() -> None:
    subject = module(start=9, max_steps=1)
    images = torch.cat([IMAGES, 0.05 * IMAGES[:1]])  # in batches of two and of three
    trainer = fit(subject, images=images, batch_size=4, limit_val_batches=1.0, val_check_interval=1)
    autoencoder = subject.autoencoder
    with torch.no_grad():
        reconstruction = autoencoder.decode(autoencoder.moments(images).mean).clamp(-1, 1)
    each = [
        float(peak_signal_noise_ratio(a[None], b[None], data_range=2.0))
        for a, b in zip(reconstruction, images, strict=True)
    ]
    assert max(each) - min(each) > 3
    assert float(trainer.callback_metrics["val/psnr"]) == pytest.approx(sum(each) / 5, rel=1e-5)
