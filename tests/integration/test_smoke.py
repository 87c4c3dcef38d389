"""Both stages in seconds on real digits: samples are read as what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

from ldmlab.apps.cli import main as cli


def test_quickstart_beats_chance_and_the_shuffled_control(tmp_path: Path) -> None:
    cli.main(
        [
            "train",
            "experiment=digits",
            "codec=normalized",
            "name=smoke",
            f"paths.runs={tmp_path}",
            "discriminator=none",
            "autoencoder.patch=2",
            "autoencoder.channels=32",
            "network.channels=32",
            "network.channel_mult=[1]",
            "conditioner.dim=32",
            "stages.autoencoder.max_steps=100",
            "stages.diffusion.max_steps=150",
        ]
    )
    card = json.loads((tmp_path / "smoke/diffusion/latest/card.json").read_text())
    accuracy = card["metrics"]["class_accuracy"]
    assert accuracy["real"] > 0.95
    assert accuracy["shuffled"] < 0.25
    assert accuracy["value"] > accuracy["shuffled"] + 0.3
