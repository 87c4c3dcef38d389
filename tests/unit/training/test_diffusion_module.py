"""Stage two: what validation measures, what is trained and what follows it."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.unit.training.toys import fit
from torch import Tensor
from torch.optim import SGD

from ldmlab.autoencoding.codec import IdentityCodec
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, LossTerms
from ldmlab.diffusion.parameterization import V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.schedule import cosine
from ldmlab.diffusion.timestep_sampler import LossSecondMoment, TimestepSampler, Uniform
from ldmlab.diffusion.weighting import Unit
from ldmlab.models.latent_diffusion import ConditionalNetwork, LatentDiffusion
from ldmlab.nn.unet import UNet
from ldmlab.training.diffusion_module import DiffusionModule
from ldmlab.training.optimizers.lr_schedules import constant

BATCH = Batch(
    index=torch.tensor([7, 2, 11, 3]),
    image=torch.linspace(-1, 1, 4 * 4 * 4).reshape(4, 1, 4, 4),
    label=torch.tensor([0, 1, 2, 0]),
)


def module(times: TimestepSampler | None = None, seed: int = 0) -> DiffusionModule:
    torch.manual_seed(0)
    unet = UNet(1, 1, token_dim=8, channels=32, channel_mult=[1], num_res_blocks=1,
                attention_factors=[1], num_heads=1)  # fmt: skip
    model = LatentDiffusion(
        IdentityCodec(1),
        ConditionalNetwork(unet, ClassConditioner(3, 8)),
        DiffusionProcess(cosine(100), V(), Unit(), times or Uniform()),
    )
    _shake(model.network)
    return DiffusionModule(
        model, lambda network: SGD(network.parameters(), lr=0.1), constant(1), lambda n: 0.75, seed
    )


def _shake(network: torch.nn.Module) -> None:
    """Away from the zeros that its last layers start with."""
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn(weight.shape)


def validate(subject: DiffusionModule, batch: Batch = BATCH) -> float:
    """What one batch of a validation logs."""
    logged: dict[str, Tensor] = {}
    subject.log_mean = lambda name, value, count: logged.update({name: value})  # type: ignore
    with torch.no_grad():
        subject.validation_step(batch, 0)
    return float(logged["val/loss"])


def test_validation_noise_belongs_to_the_sample_alone() -> None:
    subject = module()
    value = validate(subject)
    subject.steps += 100
    assert validate(subject) == value, "another step"
    parts = [validate(subject, BATCH[part]) for part in ([3, 0], [1, 2])]
    assert sum(parts) / 2 == pytest.approx(value, rel=1e-5), "another batch"
    assert validate(module(seed=1)) != pytest.approx(value, rel=1e-3)


def test_validation_judges_the_average_and_puts_the_trained_network_back() -> None:
    subject = module()
    value, trained = validate(subject), subject.model.network
    _shake(subject.model.network)
    assert validate(subject) == value
    _shake(subject.ema.network)
    assert validate(subject) != pytest.approx(value, rel=1e-3)
    assert subject.model.network is trained


class _Following(DiffusionModule):
    """Trains on labelled images without a data set."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return super().training_step(BATCH, batch_idx)


def test_step_trains_network_and_conditioner_and_the_average_follows() -> None:
    subject = module()
    subject.__class__ = _Following
    subject.max_steps = 1
    before = copy.deepcopy(subject.model.network.state_dict())
    fit(subject)
    trained = subject.model.network.state_dict()
    for name, value in subject.ema.network.state_dict().items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * trained[name])
    moved = {name for name, value in trained.items() if not torch.equal(value, before[name])}
    assert {"conditioner.embedding.weight", "backbone.conv_out.weight"} <= moved
    assert int(subject.ema.num_updates) == subject.step == 1


def test_only_the_network_is_handed_to_the_optimizer() -> None:
    subject = module()
    optimizer = subject.configure_optimizers()["optimizer"]
    handed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert handed == {id(p) for p in subject.model.network.parameters()}


def test_times_learn_from_the_losses_without_importance_weights() -> None:
    subject = module(LossSecondMoment(bins=2, history=1))
    times = subject.model.process.timestep_sampler
    weighted, plain, t = (
        torch.tensor([6.0, 0.5]),
        torch.tensor([3.0, 4.0]),
        torch.tensor([0.2, 0.9]),
    )
    subject.model.loss = lambda batch, noise: LossTerms(weighted, plain, t)  # type: ignore
    subject.all_gather = lambda values: values  # type: ignore[method-assign]
    terms = subject.terms(BATCH[:2], SampleNoise(0, [0, 1]))
    assert float(terms.total) == float(terms.logs["loss"]) == 3.25
    assert times.losses.tolist() == [[3.0], [4.0]]
