"""Many runs of one command, for real: a grid with two devices each, and a search."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.integration.test_wandb import TINY

from ldmlab.core.checkpoint_file import read_checkpoint

SMALL = [argument for argument in TINY if argument != "logger=wandb"] + ["codec=identity"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _ldmlab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ldmlab", *arguments, *SMALL],
        capture_output=True,
        text=True,
        check=False,
    )


def _own_runs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def test_multirun_on_two_devices_keeps_its_runs_apart(tmp_path: Path) -> None:
    pair = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    # The first job fails: no signal is left at the end of that schedule, so none can be predicted.
    grid = ["parameterization=eps", "-m", "schedule=rectified_flow,cosine,linear"]
    done = _ldmlab("train", f"paths.runs={tmp_path}", *grid, *pair)
    assert done.returncode == 1, done.stderr[-2000:]
    rows = [line.split(maxsplit=3)[:2] for line in done.stdout.splitlines()[-3:]]
    assert rows == [["0", "2"], ["1", "0"], ["2", "0"]], done.stdout
    folders = _own_runs(tmp_path / "tiny/diffusion")
    runs = [path for path in folders if (path / "checkpoints/last.ckpt").is_file()]
    # A model that cannot be built leaves no folder; and no sweep is inside a sweep.
    assert (len(folders), len(runs)) == (2, 2)
    assert not (tmp_path / ".hydra").exists() or not list((tmp_path / ".hydra").glob("*/*"))
    one, two = (read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"] for run in runs)
    assert int(one["steps"]) == int(two["steps"]) == 4
    assert not all(torch.equal(two[name], value) for name, value in one.items())
    written = [(run / "checkpoints/last.ckpt").stat().st_mtime_ns for run in runs]
    grid[-1] = "schedule=cosine,linear"
    again = _ldmlab("train", f"paths.runs={tmp_path}", *grid, *pair)
    assert again.returncode == 0 and again.stderr.count("reusing") >= 2
    assert written == [(run / "checkpoints/last.ckpt").stat().st_mtime_ns for run in runs]


def test_sweep_trains_evaluates_and_repeats(tmp_path: Path) -> None:
    found = _ldmlab("sweep", "sweep=optuna_lr", "n_trials=2", f"paths.runs={tmp_path}")
    assert found.returncode == 0, found.stderr[-2000:]
    assert "2 complete" in found.stdout
    runs = _own_runs(tmp_path / "tiny/diffusion")
    losses = []
    for run in runs:
        with (run / "metrics.csv").open(newline="") as file:
            losses.append([row["val/loss"] for row in csv.DictReader(file) if row["val/loss"]][-1])
    best = runs[losses.index(min(losses, key=float))]
    command = found.stdout.split("repeat the best: ldmlab ")[1].split()
    assert command == ["train", f"config={best}/config.yaml", "run_id=best"]
    subprocess.run([sys.executable, "-m", "ldmlab", *command], check=True)
    one, two = (
        read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"]
        for run in (best, best.with_name("best"))
    )
    assert all(torch.equal(two[name], value) for name, value in one.items())
