"""metrics.csv while it grows, after a kill and on a full disk."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ldmlab.core.errors import UserError
from ldmlab.core.history import read_history
from ldmlab.training.loggers.metrics_file import MetricsFile


def _begun(path: Path, step: int = 0) -> MetricsFile:
    file = MetricsFile(path)
    file.begin(step)
    return file


def test_metrics_row_gathers_all_values_of_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = _begun(path)
    for step in range(3):
        file.log_metrics({"b": step + 0.1, "epoch": 0}, step)
    file.log_metrics({"a": 1.0}, 2)
    file.log_metrics({"a": 2.0, "b": 3.0}, 5)
    assert path.read_text() == "step,a,b\n0,,0.1\n1,,1.1\n2,1.0,2.1\n5,2.0,3.0\n"


def test_metrics_row_cost_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = _begun(path)
    file.log_metrics({"a": 0.0, "b": 0.0}, 0)
    inode = path.stat().st_ino
    for step in range(1, 50):
        file.log_metrics({"a": 1.0}, step)
        file.log_metrics({"b": 1.0}, step)
    assert path.stat().st_ino == inode, "the file was written anew"
    assert read_history(path)[49] == {"a": 1.0, "b": 1.0}


def test_resumed_metrics_file_holds_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    whole = _begun(path)
    for step in range(6):
        whole.log_metrics({"a": float(step)}, step)
    whole.log_metrics({"val": 9.0}, 5)
    wanted = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"6,6.")  # the kill came here
    resumed = _begun(path, 4)
    assert list(read_history(path)) == [0, 1, 2, 3]
    for step in (4, 5):
        resumed.log_metrics({"a": float(step)}, step)
    resumed.log_metrics({"val": 9.0}, 5)
    assert path.read_bytes() == wanted
    assert read_history(_begun(path).path) == {}, "a run from the start has no history"


def test_late_validation_joins_the_row_of_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    _begun(path).log_metrics({"a": 0.5}, 3)
    _begun(path, 4).log_metrics({"val": 1.0}, 3)
    assert read_history(path) == {3: {"a": 0.5, "val": 1.0}}


def test_full_disk_leaves_whole_metrics_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = _begun(path)
    file.log_metrics({"a": 0.5}, 0)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 3, hard))
    try:
        with pytest.raises(UserError, match=r"metrics\.csv cannot be written \(File too large\)"):
            file.log_metrics({"a": 0.25}, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
