"""A run of each version of the configuration, kept for ever: loaded, sampled, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.integration.conftest import STORED, unpack

from ldmlab.apps.cli.main import main
from ldmlab.apps.config.migrations import VERSION
from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.runs.find import find_run
from ldmlab.training.resume import Resume


def test_every_version_of_the_configuration_has_a_stored_run() -> None:
    assert {path.name for path in STORED} == {f"run_v{k}.tar.xz" for k in range(1, VERSION + 1)}
    assert all(path.stat().st_size < 300_000 for path in STORED)


@pytest.fixture(params=STORED, ids=lambda path: path.name.partition(".")[0])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of one version's experiment, unpacked."""
    return unpack(request.param, tmp_path / "runs")


def test_stored_run_draws_its_stored_image(stored: Path, tmp_path: Path) -> None:
    run = f"run={stored}/diffusion/latest"
    main(["sample", run, "labels=3", "num_samples=1", "seed=5", f"out={tmp_path}/out"])
    now, then = (
        np.asarray(Image.open(path / "00000.png"), dtype=int)
        for path in (tmp_path / "out", stored / "drawn")
    )
    assert abs(now - then).max() <= 2  # bytes, on another processor
    assert then.std() > 10


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_stored_run_resumes(stored: Path, stage: str) -> None:
    run = find_run(stored / stage)
    assert load_config(run.config).config_version == VERSION
    before = Resume.at(run.checkpoints / "last.ckpt")
    assert (before.stage, before.step) == (stage, 4)
    steps = f"stages.{stage}.max_steps=6"
    main(["train", f"config={run.config}", f"paths.runs={stored.parent}", f"stage={stage}", steps])
    assert Resume.at(run.checkpoints / "last.ckpt").step == 6
    assert json.loads(run.environment.read_text())["versions"]["ldmlab"]
