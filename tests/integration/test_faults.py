"""What befalls a run: signals, and losses that are no numbers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.integration.test_training import TINY, train, weights

from ldmlab.apps import cli
from ldmlab.core.records import Batch
from ldmlab.data.vistas.dataset import Vistas
from ldmlab.training.checkpoints import read_checkpoint


def _poison(monkeypatch: pytest.MonkeyPatch, rows: set[int]) -> None:
    """Let some images of the training data hold a NaN."""
    clean = Vistas.__getitems__

    def spoilt(self: Vistas, where: list[int]) -> Batch:
        batch = clean(self, where)
        image = batch.image.clone()
        for k, index in enumerate(batch.index.tolist()):
            if index in rows:
                image[k, 0, 0, 0] = float("nan")
        return replace(batch, image=image)

    monkeypatch.setattr(Vistas, "__getitems__", spoilt)


def test_a_step_without_finite_gradients_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _poison(monkeypatch, {5})
    # Two epochs of four batches: the spoilt image comes twice, the game running.
    some = ["stage=autoencoder", "stages.autoencoder.max_steps=8", "discriminator.start=0"]
    train(tmp_path, *some, "stages.autoencoder.batch_size=16", "trainer.log_every_n_steps=1")
    state = weights(tmp_path, "autoencoder")
    assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())
    assert int(state["steps"]) == 8
    csv = (tmp_path / "quickstart/autoencoder/latest/metrics.csv").read_text()
    assert "train/skipped_steps" in csv.splitlines()[0]
    assert "grad_norm/discriminator" in csv.splitlines()[0]


def test_a_run_of_such_steps_ends_training_and_keeps_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _poison(monkeypatch, set(range(64)))
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path, "stage=autoencoder", "callbacks.patience=2")
    assert stopped.value.code == 2
    assert "2 steps in a row" in capsys.readouterr().err
    run = tmp_path / "quickstart/autoencoder/latest"
    (kept,) = (run / "replay").iterdir()
    batch = torch.load(kept, weights_only=True)
    assert batch["step"] == 2
    assert batch["batch"]["image"].isnan().any()
    assert not list((run / "checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path: Path, number: int) -> None:
    long = ["stage=autoencoder", "stages.autoencoder.max_steps=100000"]
    often = ["callbacks.checkpoint_every=5", "callbacks.sample_every=100000"]
    arguments = [f"paths.runs={tmp_path}", *TINY, *long, *often]
    command = [sys.executable, "train.py", *arguments]
    run = tmp_path / "quickstart/autoencoder/latest"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        _wait_for(lambda: (run / "checkpoints/last.ckpt").is_file(), process)
        process.send_signal(number)
        started = time.monotonic()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said[-2000:]
    assert time.monotonic() - started < 15
    assert "the same command continues" in said
    reached = int(read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"]["steps"])
    assert f"after step {reached}," in said
    cli.main(["train", *arguments, f"stages.autoencoder.max_steps={reached + 1}"])
    assert int(weights(tmp_path, "autoencoder")["steps"]) == reached + 1


def _wait_for(done: Callable[[], bool], process: subprocess.Popen, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
