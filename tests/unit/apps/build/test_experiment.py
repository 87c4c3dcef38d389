"""Every number of a stage reaches the object that it is for, and every configuration learns."""

from __future__ import annotations

import pytest
import torch

from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_codec,
    build_diffusion_module,
    build_model,
    learning_rate,
)
from ldmlab.apps.config.compose import compose
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import DataSpec
from ldmlab.data.vistas.dataset import Vistas
from ldmlab.training.diffusion_module import DiffusionModule
from ldmlab.training.step_module import StepModule

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "house", "sea")
SPEC = DataSpec(32, 3, 12, 12, WORDS)
TINY = [
    "autoencoder.channels=16", "network.channels=16", "network.head_channels=16",
    "conditioner.dim=24", "perceptual=none", "discriminator.discriminator.channels=8",
]  # fmt: skip
BATCH = Vistas("train", 4).__getitems__([0, 1, 2, 3])


def module(stage: str, *words: str) -> StepModule:
    """A stage of a small experiment."""
    tiny = [
        word
        for word in TINY
        if "conditioner=mask" not in words or not word.startswith("conditioner.")
    ]
    cfg = compose([*tiny, *words])
    torch.manual_seed(0)
    if stage == "autoencoder":
        return build_autoencoder_module(cfg, SPEC)
    return build_diffusion_module(cfg, build_model(cfg, SPEC, build_codec(cfg, SPEC)))


def test_numbers_of_stage_one_reach_their_objects() -> None:
    built = module(
        "autoencoder",
        "seed=7", "optimizer=adamw", "lr_schedule=warmup_cosine", "lr_schedule.final=0.25",
        "bottleneck.weight=0.125", "perceptual=vistas", "perceptual.weight=0.375",
        "discriminator.start=13", "discriminator.weight=0.625", "discriminator.loss=vanilla",
        *(f"stages.autoencoder.{word}" for word in (
            "lr=0.002", "discriminator_lr=0.001", "betas=[0.3,0.7]", "weight_decay=0.05",
            "warmup_steps=4", "max_steps=20", "accumulate_grad_batches=2", "loss_type=l2",
            "reduction=sum_pixels",
        )),
    )  # fmt: skip
    assert (built.seed, built.max_steps, built.accumulate_grad_batches) == (7, 20, 2)
    groups = [config["optimizer"].param_groups[0] for config in built.configure_optimizers()]
    assert [group["initial_lr"] for group in groups] == [0.002, 0.001]
    assert all(g["betas"] == (0.3, 0.7) and g["weight_decay"] == 0.05 for g in groups)
    assert [built.lr_schedule(n) for n in (0, 4, 12, 20)] == pytest.approx([0.2, 1, 0.625, 0.25])
    loss, adversary = built.loss, built.adversary
    assert (loss.loss_type, loss.reduction) == ("l2", "sum_pixels")
    assert (loss.perceptual_weight, loss.regularizer_weight) == (0.375, 0.125)
    assert (adversary.start, adversary.weight) == (13, 0.625)
    assert adversary.loss.__name__ == "vanilla_loss"


def test_numbers_of_stage_two_reach_their_objects() -> None:
    built = module(
        "diffusion",
        "seed=7", "optimizer=muon", "optimizer.momentum=0.8", "lr_schedule=constant",
        "weighting=min_snr", "weighting.gamma=3", "schedule=cosine", "schedule.num_steps=200",
        "ema=warmup", "stages.diffusion.ema.decay=0.5",
        *(f"stages.diffusion.{word}" for word in (
            "lr=0.002", "betas=[0.3,0.7]", "weight_decay=0.05", "warmup_steps=4", "max_steps=20",
            "accumulate_grad_batches=2", "loss_type=l1", "condition_dropout=0.35",
        )),
    )  # fmt: skip
    assert (built.seed, built.max_steps, built.accumulate_grad_batches) == (7, 20, 2)
    matrices, rest = built.configure_optimizers()["optimizer"].param_groups
    assert (matrices["initial_lr"], rest["initial_lr"]) == (pytest.approx(0.02), 0.002)
    assert matrices["momentum"] == 0.8 and rest["betas"] == (0.3, 0.7)
    assert matrices["weight_decay"] == rest["weight_decay"] == 0.05
    assert [built.lr_schedule(n) for n in (0, 4, 20)] == pytest.approx([0.2, 1, 1])
    assert built.model.condition_dropout == 0.35
    process = built.model.process
    assert (process.loss_type, process.weighting.gamma) == ("l1", 3)
    assert process.schedule.num_steps == 200
    assert built.ema.decays[0](10**6) == 0.5


def test_scaled_rate_is_that_of_an_image_times_the_batch() -> None:
    for scaled, expected in ((False, 2e-6), (True, 9.6e-5)):
        cfg = compose([f"scale_lr={str(scaled).lower()}", "stages.diffusion.batch_size=48"])
        found = learning_rate(cfg, cfg.stages.diffusion, 2e-6)
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("autoencoder", "bottleneck=vq"),
        ("autoencoder", "perceptual=vistas"),
        ("autoencoder", "stages.autoencoder.reduction=sum_pixels"),
        ("diffusion", "codec=identity network.attention_factors=[2]"),
        ("diffusion", "schedule=rectified_flow parameterization=flow"),
        ("diffusion", "schedule=linear parameterization=eps weighting=unit"),
        ("diffusion", "schedule=scaled_linear optimizer=adamw conditioner=class"),
        ("diffusion", "schedule=karras_ve parameterization=edm weighting=edm"
         " timestep_sampler=log_normal conditioner=mask"),
        ("diffusion", "schedule=zero_terminal_snr timestep_sampler=loss_second_moment"),
        ("diffusion", "parameterization=learned_variance weighting=soft_min_snr"),
        ("diffusion", "weighting=min_snr timestep_sampler=stratified parameterization=x0"),
    ],
    ids=lambda value: value.split()[0],
)  # fmt: skip
def test_every_configuration_descends_its_loss(stage: str, words: str) -> None:
    built = module(stage, *words.split())
    configs = built.configure_optimizers()
    optimizer = (configs[0] if isinstance(configs, list) else configs)["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * 5
    values = []
    for _ in range(8):
        if isinstance(built, DiffusionModule):
            # The same draw at each step, but for times that learn from it.
            loss = built.model.loss(BATCH, SampleNoise(3, range(4))).per_sample.mean()
        else:
            loss = built.terms(BATCH, SampleNoise(3, range(4))).logs["loss"]
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(values[4:]) < 0.95 * values[0], values
    assert all(torch.isfinite(torch.tensor(values)))
