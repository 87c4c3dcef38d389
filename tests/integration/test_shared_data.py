"""Data sets on disk, divided between two gloo processes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.test_image_data import CONDITIONS, NARROW

from ldmlab.apps.cli import main as cli
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make

FOUR_STEPS = (
    *("stages.autoencoder.max_steps=4", "stages.autoencoder.batch_size=4"),
    *("stages.diffusion.max_steps=4", "stages.diffusion.batch_size=4"),
    *("data.max_bad=5", "trainer.log_every_n_steps=1", "evaluation=none"),
)


def _losses(runs: Path, stage: str) -> list[float]:
    with (runs / "narrow" / stage / "latest/metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_two_processes_with_workers_see_the_batches_of_one(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    form = make(name, root, None, 12, 32)
    if loose := sorted(root.rglob("*.jpg")):  # the same one takes its place in each process
        loose[0].write_bytes(b"<html>")
    narrow = [o for o in NARROW if o.partition("=")[0] not in str(FOUR_STEPS) + "data.limit"]
    needed = OVERRIDES.get((name, form), "").split()
    arguments = [f"data={name}", f"data.root={root}", *narrow, *CONDITIONS[name], *needed]
    arguments += FOUR_STEPS
    one, two = tmp_path / "one", tmp_path / "two"
    cli.main(["train", f"paths.runs={one}", *arguments, "data.num_workers=0"])
    pair = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "data.num_workers=2")
    told = subprocess.run(
        [sys.executable, "train.py", f"paths.runs={two}", *arguments, *pair],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    for stage in ("autoencoder", "diffusion"):
        alone = _losses(one, stage)
        assert len(alone) == 4
        assert _losses(two, stage) == pytest.approx(alone, rel=1e-3), stage
