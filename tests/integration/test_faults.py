"""What befalls a run: signals, and losses that are no numbers."""

from __future__ import annotations

import os
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

from ldmlab.apps.cli import main as cli
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.records import Batch
from ldmlab.data.vistas.dataset import Vistas


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


def test_step_with_non_finite_gradients_is_skipped(
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
    assert "throughput/images_per_second" in csv.splitlines()[0]


def test_repeated_non_finite_steps_end_training_and_save_the_batch(
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


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_and_the_same_command_resumes(tmp_path: Path, number: int) -> None:
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


SPANS = ("stages.autoencoder.max_steps=40", "stages.diffusion.max_steps=40")
OFTEN = ("callbacks.checkpoint_every=4", "callbacks.sample_every=1000", "evaluation.num_samples=4")
PAIR = ("trainer=ddp", "trainer.accelerator=cpu", "discriminator.discriminator.norm=group")


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        pytest.param("autoencoder", (), marks=pytest.mark.slow),
        pytest.param("diffusion", ("data.num_workers=2",), marks=pytest.mark.slow),
        pytest.param("autoencoder", PAIR, marks=pytest.mark.slow),
        pytest.param("diffusion", PAIR, marks=pytest.mark.slow),
    ],
)
def test_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, stage: str, options: tuple[str, ...]
) -> None:
    only = () if stage == "diffusion" else ("stage=autoencoder",)
    common = [*TINY, *SPANS, *OFTEN, *only, *options]

    def start(folder: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "train.py", f"paths.runs={tmp_path / folder}", *common],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    last = tmp_path / "killed/quickstart" / stage / "latest/checkpoints/last.ckpt"
    with start("killed") as process:
        _wait_for(last.is_file, process)
        os.killpg(process.pid, signal.SIGKILL)
    assert int(read_checkpoint(last)["state_dict"]["steps"]) < 40
    for folder in ("whole", "killed"):
        with start(folder) as process:
            _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said[-2000:]
    assert "continuing" in said
    one, two = (
        read_checkpoint(tmp_path / folder / "quickstart" / stage / "latest/checkpoints/last.ckpt")
        for folder in ("whole", "killed")
    )
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert _equal(one[part], two[part]), part


def _equal(one: object, two: object) -> bool:
    """Whether two nests of tensors and plain values are the same bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return (
            isinstance(two, dict)
            and one.keys() == two.keys()
            and all(_equal(value, two[key]) for key, value in one.items())
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_equal, one, two))  # type: ignore[arg-type]
    return one == two


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_dead_or_hanging_process_ends_the_job(tmp_path: Path, number: int) -> None:
    long = ["stage=autoencoder", "stages.autoencoder.max_steps=100000"]
    pair = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.strategy.timeout=20"]
    quick = ["callbacks.checkpoint_every=5", "callbacks.sample_every=100000"]
    arguments = [f"paths.runs={tmp_path}", *TINY, *long, *pair, *quick]
    run = tmp_path / "quickstart/autoencoder/latest"
    with subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _wait_for(lambda: (run / "checkpoints/last.ckpt").is_file(), process)
        (other,) = _children(process.pid)
        os.kill(other, number)
        started = time.monotonic()
        _, said = process.communicate(timeout=100)
    assert process.returncode not in (0, 2)
    assert time.monotonic() - started < 50
    until = time.monotonic() + 5
    while _lives(other):
        assert time.monotonic() < until
        time.sleep(0.05)
    if number == signal.SIGSTOP:
        assert "process 1 of 2 does not answer (process 0 of 2 waited for it) after step" in said
    read_checkpoint(run / "checkpoints/last.ckpt")


@pytest.mark.slow
def test_child_processes_end_with_their_launcher(tmp_path: Path) -> None:
    pair = ["trainer=ddp", "trainer.accelerator=cpu", "stage=autoencoder"]
    arguments = [f"paths.runs={tmp_path}", *TINY, *pair]
    process = subprocess.Popen([sys.executable, "train.py", *arguments], stderr=subprocess.PIPE)
    with process:
        _wait_for(lambda: bool(_children(process.pid)), process)
        (other,) = _children(process.pid)
        process.terminate()  # before the first step: nobody listens yet
    until = time.monotonic() + 60
    while _lives(other):
        assert time.monotonic() < until
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    """Processes that another has started to train with it, those that load data left out."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in found if b"train.py" in Path(f"/proc/{c}/cmdline").read_bytes()]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
