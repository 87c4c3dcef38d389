"""Which checkpoint of a folder is continued."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ldmlab.core.checkpoint_file import write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.training.resume import Resume, newest_checkpoint


def _saved(path: Path, step: int, age: int) -> Path:
    """A checkpoint of `age` seconds ago."""
    metadata = {"stage": "diffusion", "spec": {"vocabulary": ["a"]}, "identity": {"seed": 0}}
    state = {"steps": torch.tensor(step)}
    write_checkpoint({"state_dict": state, "metadata": metadata}, path)
    os.utime(path, (10**9 - age, 10**9 - age))
    return path


def test_newest_readable_checkpoint_is_continued(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    # Neither the number in its name nor its step makes a checkpoint the newest.
    _saved(tmp_path / "step-000900.ckpt", 900, age=300)
    last = _saved(tmp_path / "last.ckpt", 400, age=20)
    _saved(tmp_path / "best.ckpt", 100, age=200)
    found = newest_checkpoint(tmp_path)
    assert found == (Resume(last, "diffusion", 400, ("a",), {"seed": 0}), [])
    damaged = tmp_path / "step-000500.ckpt"
    damaged.write_bytes(last.read_bytes()[:-100])
    os.utime(damaged, (10**9, 10**9))
    resume, complaints = newest_checkpoint(tmp_path) or (None, [])
    assert resume is not None and resume.path == last
    assert len(complaints) == 1 and "step-000500.ckpt" in complaints[0]


def test_folder_of_damaged_checkpoints_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"can be read \(last\.ckpt\)"):
        newest_checkpoint(tmp_path)


def test_run_goes_on_as_what_it_was_begun_as() -> None:
    seen = {"images": 10}
    before = Resume(Path("last.ckpt"), "diffusion", 5, ("a", "b"), {"seed": 0, "lr": 0.1}, seen)
    before.check_same({"seed": 0, "lr": 0.1}, ("a", "b"), seen)
    with pytest.raises(UserError, match=r"trained with lr=0\.1, not 0\.2"):
        before.check_same({"seed": 0, "lr": 0.2}, ("a", "b"), seen)
    with pytest.raises(UserError, match="trained with seed=0, not None"):
        before.check_same({"seed": None, "lr": 0.1}, ("a", "b"), seen)
    with pytest.raises(UserError, match="only one of them has lr"):
        before.check_same({"seed": 0}, ("a", "b"), seen)
    with pytest.raises(UserError, match="other tokens"):
        before.check_same({"seed": 0, "lr": 0.1}, ("b", "a"), seen)
    with pytest.raises(UserError, match="images"):
        before.check_same({"seed": 0, "lr": 0.1}, ("a", "b"), {"images": 11})
