"""Train the tiny run that the tests keep of this version: `python scripts/make_stored_run.py`.

It writes `tests/data/run_v<config_version>.tar.xz`: both stages of a model of a few thousand
weights on the digits, and a sample of it. A version's run is made once, when its keys have settled,
and is loaded, sampled and resumed by the tests ever after.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from ldmlab.apps.cli.main import main
from ldmlab.apps.config.migrations import VERSION

DATA = Path(__file__).parents[1] / "tests" / "data"
NAME = f"run_v{VERSION}"
STAGE = ("max_steps=4", "batch_size=8", "val_every=4")
WISH = ("labels=3", "num_samples=1", "seed=5")
OVERRIDES = (
    "experiment=digits", "codec=normalized", "discriminator=none", "evaluation=none",
    "autoencoder.channels=8", "autoencoder.patch=2", "bottleneck.latent_channels=2",
    "network.channels=8", "network.num_res_blocks=0", "network.channel_mult=[1]",
    "network.head_channels=8", "conditioner.dim=8", "guidance.scale=1.5",
    "sampler=ddim", "sampler.steps=4", "data.limit=64", "data.validation_limit=8",
    "codec.num_images=64", "callbacks.num_samples=4",
    *(f"stages.{stage}.{option}" for stage in ("autoencoder", "diffusion") for option in STAGE),
)  # fmt: skip


def make() -> None:
    """Train the run, draw what the tests compare with, and pack both."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # a stored run tells no paths of the machine that made it
        main(["train", f"name={NAME}", "run_id=stored", "paths.runs=.", *OVERRIDES])
        main(["sample", f"run={NAME}/diffusion", *WISH, f"out={NAME}/drawn"])
        DATA.mkdir(exist_ok=True)
        with tarfile.open(DATA / f"{NAME}.tar.xz", "w:xz") as archive:
            archive.add(NAME)


if __name__ == "__main__":
    make()
