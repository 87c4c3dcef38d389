"""Two gloo processes against one with the same global batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.integration.test_training import TINY, weights

from ldmlab.apps.cli import main as cli

COMMON = (
    *TINY,
    "discriminator.discriminator.norm=group",
    "optimizer=adamw",
    # Times that learn from the losses of all processes.
    *(
        "timestep_sampler=loss_second_moment",
        "timestep_sampler.bins=2",
        "timestep_sampler.history=1",
    ),
    "trainer.log_every_n_steps=1",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same experiment in one process and in two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    ddp = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    # Two processes are started as a user starts them; they mostly import, so one trains meanwhile.
    with subprocess.Popen(
        [sys.executable, "train.py", f"paths.runs={two}", *COMMON, *ddp],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as pair:
        try:
            _train_alone(one)
            _, said = pair.communicate(timeout=240)
        finally:
            pair.terminate()
    assert pair.returncode == 0, said[-3000:]
    return one, two


def _train_alone(folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cli.main(["train", f"paths.runs={folder}", *COMMON])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_two_processes_train_the_same_weights_as_one(runs: tuple[Path, Path], stage: str) -> None:
    one, two = (weights(folder, stage) for folder in runs)
    assert one.keys() == two.keys()
    assert int(one["steps"]) == int(two["steps"]) == 4
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=name)


def test_two_process_diffusion_loss_equals_one_process(runs: tuple[Path, Path]) -> None:
    one, two = (
        [
            float(row["train/loss"])
            for row in csv.DictReader(
                (folder / "quickstart/diffusion/latest/metrics.csv").open(newline="")
            )
            if row["train/loss"]
        ]
        for folder in runs
    )
    assert len(one) == 4
    # The first step has the same weights up to stage one's rounding.
    assert two == pytest.approx(one, rel=1e-4)
    assert two[0] == pytest.approx(one[0], rel=1e-5)


@pytest.mark.slow
def test_torchrun_trains_the_same_weights_as_one_process(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ddp = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    subprocess.run(
        [*command, "train.py", f"paths.runs={tmp_path}", *COMMON, *ddp],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        capture_output=True,
    )
    for stage in ("autoencoder", "diffusion"):
        one, two = weights(runs[1], stage), weights(tmp_path, stage)
        assert all(torch.equal(value, two[name]) for name, value in one.items()), stage
