"""Every key of the stages, the trainer and the callbacks is obeyed: it changes the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from ldmlab.apps.config.compose import compose
from ldmlab.apps.stages import fit_stage
from ldmlab.apps.stages.session import Session
from ldmlab.apps.stages.two_stage import train_autoencoder, train_diffusion
from ldmlab.training.fit import StageFit
from tests.config.changes import changes, keys
from tests.config.fingerprint import fingerprint

TINY = (
    "data.train.num_samples=24", "data.validation.num_samples=8", "autoencoder.channels=16",
    "network.channels=16", "network.head_channels=16", "conditioner.dim=16", "perceptual=none",
    "discriminator.discriminator.channels=8", "sampler.steps=2", "run_id=same",
    "stages.autoencoder.batch_size=8", "stages.diffusion.batch_size=8", "codec.num_images=8",
)  # fmt: skip
# What decides where a run lies, what is done, or what is shown, and nothing of the run itself.
OUTSIDE = {
    "name", "stage", "run_id", "resume", "config", "traceback", "trust", "config_version",
    "data.image_size", "data.channels", "data.num_classes", "data.num_mask_labels",
    "data.vocabulary", "data.root", "data.latents", "codec.run",
    "trainer.accelerator",  # a machine has the one or the other
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    ["", "stages.autoencoder", "stages.diffusion", "callbacks", "trainer", "data", "perceptual",
     "codec"],
)  # fmt: skip
def test_every_key_of_a_run_changes_the_run(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[StageFit] = []
    monkeypatch.setattr(StageFit, "run", lambda self, resume: fits.append(self) or 0.0)
    monkeypatch.setattr(fit_stage, "build_loggers", lambda *arguments: [])
    runs = iter(range(10_000))

    def made(cfg: DictConfig) -> str:
        fits.clear()
        cfg = cfg.copy()
        cfg.paths.runs = str(tmp_path / str(next(runs)))
        session = Session.open(cfg)
        train_autoencoder(session)
        # Stage two trains on stage one as it was begun, and is told that it is finished.
        finished = fits[0].module.state_dict() | {"steps": torch.tensor(10**9)}
        state = {"state_dict": finished, "metadata": {}}
        folder = next(Path(cfg.paths.runs).rglob("checkpoints"))
        torch.save(state, folder / "last.ckpt")
        train_diffusion(session)
        # Folders, and what is told of the configuration, differ with every key.
        aside = ("metadata", "folder", "identity", "default_root_dir", "path", "last")
        return fingerprint(fits, aside)

    cfg = compose([*TINY])
    assert made(cfg) == made(cfg)
    below = f"{table}." if table else ""
    for key, value in keys(cfg, below):
        if (
            key in OUTSIDE
            or (not table and "." in key)
            or key.startswith(("data.train.", "data.validation."))
        ):
            continue
        assert changes(cfg, key, value, made), key
