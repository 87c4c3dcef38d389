"""Both stages learn: one batch by heart, and more than chance in a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_codec,
    build_data,
    build_model,
)
from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.compose import compose
from ldmlab.core.random import SampleNoise
from ldmlab.training.optimizers.factories import muon

ONE_BATCH = ("data.train.num_samples=8", "data.validation.num_samples=8", "perceptual=none")


def test_autoencoder_overfits_one_batch() -> None:
    cfg = compose([*ONE_BATCH, "autoencoder.channels=32"])
    train, _, spec = build_data(cfg)
    torch.manual_seed(0)
    autoencoder = build_autoencoder_module(cfg, spec).autoencoder
    image = train.__getitems__(list(range(8))).image
    optimizer = muon(autoencoder, 3e-3, (0.9, 0.99), 0.0)
    losses = []
    for _ in range(100):
        loss = (autoencoder.reconstruct(autoencoder.encode(image)) - image).square()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses.append(loss.mean().item())
    assert losses[-1] < 0.02 * losses[0]


def test_diffusion_model_overfits_one_batch() -> None:
    cfg = compose([*ONE_BATCH, "codec=identity", "network.channels=32", "data.image_size=8"])
    train, _, spec = build_data(cfg)
    torch.manual_seed(0)
    model = build_model(cfg, spec, build_codec(cfg, spec))
    batch = train.__getitems__(list(range(8)))
    optimizer = muon(model.network, 3e-3, (0.9, 0.99), 0.0)
    losses = []
    for step in range(100):
        loss = model.loss(batch, SampleNoise(step, range(8))).per_sample.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.35 * sum(losses[:10])


@pytest.mark.slow
def test_sampled_digits_are_classified_as_their_label(tmp_path: Path) -> None:
    cli.main(["train", "experiment=digits", f"paths.runs={tmp_path}"])
    metric = json.loads((tmp_path / "digits/diffusion/latest/card.json").read_text())["metrics"]
    accuracy = metric["class_accuracy"]
    assert accuracy["real"] > 0.95
    assert accuracy["value"] > 0.8
    assert accuracy["shuffled"] < 0.3
