"""`trainer=fsdp`: stage two in parts is stage two, and its checkpoints are those of one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integration.test_training import TINY

from ldmlab.apps.cli import main as cli
from ldmlab.core.checkpoint_file import read_checkpoint

COMMON = (
    *TINY,
    # Unequal shares of the validation images.
    *("data.validation.num_samples=15", "stages.diffusion.val_every=2"),
    *(
        "optimizer=adamw",
        "ema=post_hoc",
        "stages.diffusion.accumulate_grad_batches=2",
        "evaluation=none",
    ),
    # A BatchNorm would see another batch in each process.
    "discriminator.discriminator.norm=group",
    *("callbacks.keep_every=2", "run_id=parts"),
)
FSDP = ("trainer=fsdp", "trainer.devices=2", "trainer.accelerator=cpu")


def _in_parts(runs: Path, *overrides: str) -> None:
    told = subprocess.run(
        [sys.executable, "train.py", f"paths.runs={runs}", *COMMON, *FSDP, *overrides],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert told.returncode == 0, told.stderr[-3000:]


def _alone(runs: Path, *overrides: str) -> None:
    cli.main(["train", f"paths.runs={runs}", *COMMON, *overrides])


def _checkpoint(runs: Path, name: str = "last") -> dict[str, Any]:
    return read_checkpoint(runs / "quickstart/diffusion/parts/checkpoints" / f"{name}.ckpt")


def _halfway(runs: Path, folder: Path) -> Path:
    """The same runs as they were after two steps of stage two."""
    shutil.copytree(runs, folder, symlinks=True)
    (folder / "quickstart/diffusion/parts/checkpoints/last.ckpt").unlink()
    (folder / "quickstart/diffusion/parts/checkpoints/step-000004.ckpt").unlink()
    return folder


def _assert_alike(found: Any, wanted: Any, exactly: bool, name: str = "") -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), name
        for key in wanted:
            _assert_alike(found[key], wanted[key], exactly, f"{name}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), name
        for k, pair in enumerate(zip(found, wanted, strict=True)):
            _assert_alike(*pair, exactly, f"{name}.{k}")
    elif isinstance(wanted, torch.Tensor) and not exactly:
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-5, msg=name)
    elif isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted), name


def _assert_same_training(found: Path, wanted: Path, exactly: bool = False) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        _assert_alike(_checkpoint(found)[key], _checkpoint(wanted)[key], exactly, key)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages in one process."""
    runs = tmp_path_factory.mktemp("alone")
    _alone(runs)
    return runs


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages in two processes, stage two in parts."""
    runs = tmp_path_factory.mktemp("parted")
    _in_parts(runs)
    return runs


@pytest.mark.slow
def test_sharded_training_equals_one_process(alone: Path, parted: Path) -> None:
    _assert_same_training(parted, alone)
    assert (parted / "quickstart/diffusion/parts/samples/samples-000004.png").is_file()


@pytest.mark.slow
def test_sharded_checkpoint_resumes_on_one_process(parted: Path, tmp_path: Path) -> None:
    runs = _halfway(parted, tmp_path / "runs")
    _alone(runs, "stage=diffusion")
    _assert_same_training(runs, parted)


@pytest.mark.slow
def test_unsharded_checkpoint_resumes_sharded(alone: Path, tmp_path: Path) -> None:
    runs = _halfway(alone, tmp_path / "runs")
    _in_parts(runs, "stage=diffusion")
    _assert_same_training(runs, alone)


@pytest.mark.slow
def test_sharded_resume_is_bit_for_bit(parted: Path, tmp_path: Path) -> None:
    runs = _halfway(parted, tmp_path / "runs")
    _in_parts(runs, "stage=diffusion")
    _assert_same_training(runs, parted, exactly=True)
