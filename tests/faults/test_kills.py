"""Kills in the midst of a write, the temporary folder being on another file system."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from tests.faults.harness import ENDLESS, Started, started

from ldmlab.apps.cli import main as cli
from ldmlab.core.checkpoint_file import read_checkpoint

# Saves all the time, and enough for a kill to come between.
WRITING = (
    *(o for o in ENDLESS if "checkpoint_every" not in o and "autoencoder.channels" not in o),
    "autoencoder.channels=96", "callbacks.checkpoint_every=1",
)  # fmt: skip


def _kill_in_a_write(run: Started, folder: Path) -> None:
    """Kill a run as soon as another file than before grows in its folder of checkpoints."""
    run.wait_for((folder / "last.ckpt").is_file, 240)
    before = _sizes(folder)
    while all(before.get(name) == size for name, size in _sizes(folder).items()):
        assert run.process.poll() is None, run.said[-3000:]
    os.killpg(run.process.pid, signal.SIGKILL)
    assert run.end() == -signal.SIGKILL


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Length and file number of each file with something in it."""
    found = {}
    for path in folder.iterdir():
        try:
            stat = path.stat()
        except FileNotFoundError:  # renamed meanwhile
            continue
        if stat.st_size:
            found[path.name] = (stat.st_size, stat.st_ino)
    return found


@pytest.mark.slow
def test_kill_in_a_write_leaves_whole_checkpoints_and_the_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny/autoencoder/latest/checkpoints"
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as elsewhere:
        torn: list[Path] = []
        for _ in range(6):
            with started(tmp_path, *WRITING, TMPDIR=elsewhere) as run:
                _kill_in_a_write(run, folder)
            for path in folder.glob("*.ckpt"):
                read_checkpoint(path)
            torn = [path for path in folder.iterdir() if path.suffix == ".part"]
            if torn:  # or else the rename was quicker
                break
        assert torn
        reached = int(read_checkpoint(folder / "last.ckpt")["state_dict"]["steps"])
        finished = f"stages.autoencoder.max_steps={reached + 1}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", elsewhere)
            cli.main(["train", f"paths.runs={tmp_path}", *WRITING, finished])
        assert f"from step {reached}" in capsys.readouterr().err
        assert int(read_checkpoint(folder / "last.ckpt")["state_dict"]["steps"]) == reached + 1
