"""A disk that is full, and what a run finds on it: damaged checkpoints, another process."""

from __future__ import annotations

import csv
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.integration.test_training import weights
from tests.integration.test_wandb import TINY

from ldmlab.apps.cli import main as cli
from ldmlab.core.history import read_history
from ldmlab.training.loggers.metrics_file import MetricsFile

SMALL = [argument for argument in TINY if argument != "logger=wandb"]
STAGES = ("autoencoder", "diffusion")


def train(folder: Path, *overrides: str) -> None:
    """`ldmlab train` with everything tiny."""
    cli.main(["train", f"paths.runs={folder}", *SMALL, *overrides])


@contextmanager
def _room(size: int) -> Iterator[None]:
    """Files end after so many bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of both stages."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder)
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


def _refused(
    capsys: pytest.CaptureFixture[str], folder: Path, *overrides: str, words: tuple[str, ...]
) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train(folder, *overrides)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert all(word in said.splitlines()[-1] for word in words), said


@pytest.mark.parametrize("stage", STAGES)
def test_full_disk_is_reported_in_one_line_and_keeps_the_checkpoint(
    runs: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs / "tiny" / stage / "latest"
    before = (run / "checkpoints/last.ckpt").read_bytes()
    longer = [f"stages.{stage}.max_steps=6"]
    with _room(50_000):
        words = ("last.ckpt cannot be written (File too large)", "make room in")
        _refused(capsys, runs, *longer, words=words)
    assert (run / "checkpoints/last.ckpt").read_bytes() == before
    assert not list(run.rglob("*.part"))
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(None not in row and None not in row.values() for row in rows)
    train(runs, *longer)
    assert int(weights(runs, stage, "tiny")["steps"]) == 6


def test_unwritable_run_file_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs / "tiny/diffusion/latest"
    longer = "stages.diffusion.max_steps=6"
    for name in ("metrics.csv", "config.yaml", "samples/samples-000006.png"):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()
        _refused(capsys, runs, longer, words=(f"{name} cannot be written (Is a directory)",))
        (run / name).rmdir()
    (run / "wandb").touch()
    _refused(capsys, runs, longer, "logger=wandb", words=("wandb", "Not a directory"))


def test_run_with_a_damaged_checkpoint_is_not_restarted(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = runs / "tiny/diffusion/latest/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    damaged = last.read_bytes()
    _refused(capsys, runs, words=("last.ckpt", "resume=never", "run_id="))
    assert last.read_bytes() == damaged
    train(runs, "resume=never")
    assert int(weights(runs, "diffusion", "tiny")["steps"]) == 4


def test_resume_refuses_a_checkpoint_of_the_other_stage(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (runs / "tiny" / stage / "latest/checkpoints/last.ckpt" for stage in STAGES)
    longer = "stages.diffusion.max_steps=6"
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, foreign)
    _refused(capsys, runs, f"resume={foreign}", longer, words=("of no run of ldmlab",))
    shutil.copyfile(one, foreign)
    words = ("foreign.ckpt is a checkpoint of stage=autoencoder", "stage=diffusion is trained")
    _refused(capsys, runs, f"resume={foreign}", "stage=diffusion", longer, words=words)
    checkpoint = torch.load(one, weights_only=True)
    del checkpoint["metadata"]["stage"]  # as of 0.1
    torch.save(checkpoint, foreign)
    _refused(capsys, runs, f"resume={foreign}", "stage=diffusion", longer, words=words)
    # The checkpoint says of which stage it is, wherever it lies.
    elsewhere = tmp_path / "autoencoder/a/checkpoints/last.ckpt"
    elsewhere.parent.mkdir(parents=True)
    shutil.copyfile(two, elsewhere)
    train(runs, f"resume={elsewhere}", longer)
    assert "diffusion: continuing" in capsys.readouterr().err
    assert int(weights(runs, "autoencoder", "tiny")["steps"]) == 4


def test_unfinished_autoencoder_is_not_frozen_unasked(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = ["stages.autoencoder.max_steps=6", "stage=diffusion"]
    _refused(capsys, runs, *longer, words=("stands at step 4 of 6", "stage=all", "codec.run="))
    train(runs, longer[0], "stage=autoencoder", "callbacks.keep_every=5")
    train(runs, *longer)
    assert "stands at" not in capsys.readouterr().err
    early = runs / "tiny/autoencoder/latest/checkpoints/step-000005.ckpt"
    train(runs, *longer, f"codec.run={early}")
    assert "step-000005.ckpt stands at step 5 of 6" in capsys.readouterr().err


_HOLDS = """
import sys
from ldmlab.core.locks import locked
with locked(sys.argv[1], inherited=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_run_locked_by_another_process_is_left_alone(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs / "tiny/diffusion/latest"
    before = (run / "config.yaml").read_bytes()
    command = [sys.executable, "-c", _HOLDS, str(run / ".lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        longer = "stages.diffusion.max_steps=6"
        _refused(capsys, runs, longer, words=("another process trains", "run_id=<name>"))
        assert (run / "config.yaml").read_bytes() == before
        other.communicate()
    train(runs, longer)


def test_missed_validation_is_run_on_resume(runs: Path) -> None:
    history = runs / "tiny/autoencoder/latest/metrics.csv"
    longer = ["stages.autoencoder.max_steps=6", "stage=autoencoder"]
    rows = read_history(history)
    whole, _ = MetricsFile(history), history.unlink()
    for step, row in rows.items():  # as if the run had been killed while it validated
        whole.log_metrics({k: v for k, v in row.items() if not k.startswith("val/")}, step)
    train(runs, *longer)
    again = read_history(history)
    assert list(again) == list(range(6))
    assert {step: again[step] for step in rows} == rows
