"""Atomic files: whole or absent."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ldmlab.core.errors import UserError
from ldmlab.core.files import (
    atomic_write,
    check_new,
    new_folder,
    sweep_partial,
    write_json,
    write_text,
)


def test_atomic_write_shows_the_file_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with atomic_write(target) as file:
        file.write(b"12")
        assert not target.exists()
    assert target.read_bytes() == b"12"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_write_failure_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_write(target) as file:
            file.write(b"new")
            raise OSError("disk full")

    with pytest.raises(UserError, match=r"a\.txt cannot be written \(disk full\): make room in"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[None]:
    """Files end at 10,000 bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_atomic_write_reports_a_full_disk_in_one_line(tmp_path: Path, full: None) -> None:
    with pytest.raises(UserError, match=r"a\.bin cannot be written \(File too large\)"):
        write_text(tmp_path / "a.bin", "x" * 20_000)
    with (
        pytest.raises(UserError, match="File too large") as told,
        atomic_write(tmp_path / "b") as f,
    ):
        torch.save({"weights": torch.zeros(20_000)}, f)  # it raises an error of its own
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_passes_other_errors_through(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_write(tmp_path / "a"):
        raise KeyError("x")


def test_write_json_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "x": 1.5\n}\n'


def test_orphaned_files_are_removed_and_live_writers_spared(tmp_path: Path) -> None:
    yesterday = time.time() - 86_400
    for name in (".a.ckpt.12-ab.part", "a.ckpt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (yesterday, yesterday))
    with atomic_write(tmp_path / "b.ckpt") as file:
        file.write(b"12")
        assert [path.name for path in sweep_partial(tmp_path)] == [".a.ckpt.12-ab.part"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt", "b.ckpt"}


def test_orphaned_folder_is_removed_once_nothing_in_it_is_new(tmp_path: Path) -> None:
    orphan, yesterday = tmp_path / ".run.12-ab.part", time.time() - 86_400
    (orphan / "deep").mkdir(parents=True)
    (orphan / "deep" / "model.bin").write_bytes(b"12")
    (tmp_path / ".theirs.part").touch()
    for path in (orphan, orphan / "deep", tmp_path / ".theirs.part"):
        os.utime(path, (yesterday, yesterday))
    assert sweep_partial(tmp_path) == []  # a large file is being written in it
    os.utime(orphan / "deep" / "model.bin", (yesterday, yesterday))
    with new_folder(tmp_path / "run") as folder:
        (folder / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"run", ".theirs.part"}


def test_atomic_folder_appears_whole_and_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_new(tmp_path / "empty")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "empty") as folder:
        (folder / "a").write_bytes(bytes(1 // 0))
    with new_folder(tmp_path / "empty") as folder:
        (folder / "a").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", "a"]
    for taken in (tmp_path / "empty", tmp_path / "empty" / "a"):
        with pytest.raises(UserError, match=r"out=.* exists and is not overwritten"):
            new_folder(taken).__enter__()
    with pytest.raises(UserError, match=r"out=.*a/b cannot be written"):
        new_folder(tmp_path / "empty" / "a" / "b").__enter__()


_HALF = """
import sys
from ldmlab.core.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"new" * 100_000)
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""


def test_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """The temporary folder lies elsewhere: what is renamed from there would be copied."""
    target, elsewhere = tmp_path / "runs/a.bin", tmp_path / "tmp"
    for folder in (target.parent, elsewhere):
        folder.mkdir()
    write_text(target, "old")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | {"TMPDIR": str(elsewhere)}
    command = [sys.executable, "-c", _HALF, str(target)]
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert target.read_text() == "old"
    assert not list(elsewhere.iterdir())
    (left,) = set(target.parent.iterdir()) - {target}
    assert left.stat().st_size > 0
    assert sweep_partial(target.parent, age=-1) == [left]
