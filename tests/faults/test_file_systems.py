"""File systems that lack something, and files that others must be able to read."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import warnings
from pathlib import Path

import pytest
from tests.faults.harness import TINY, Faults, started
from tests.integration.conftest import STORED, unpack

from ldmlab.apps.cli import main as cli
from ldmlab.apps.runs.find import find_run
from ldmlab.core import locks
from ldmlab.core.errors import UserError
from ldmlab.core.locks import locked


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A file system without locks; what was asked of it."""
    asked: list[str] = []

    def refuse(*_: object) -> None:
        asked.append("lock")
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(locks, "_warned", set())
    return asked


def test_file_system_without_locks_is_warned_of_once(tmp_path: Path, no_locks: list[str]) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name in ("a", "b"):
            with locked(tmp_path / name, inherited=name == "a") as mine:
                assert mine is not None
    assert len(no_locks) == 2
    assert [str(w.message) for w in told if "has no locks" in str(w.message)] == [
        f"the file system of {tmp_path} has no locks: start one process a run there, for nothing "
        "keeps two from writing the same files"
    ]


def test_other_errors_of_a_lock_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / "a"):
        pass


def test_file_system_without_symbolic_links_keeps_the_latest_run_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    experiment = unpack(STORED[-1], tmp_path)
    monkeypatch.setattr(os, "symlink", refuse)
    stage = experiment / "diffusion"
    run = find_run(stage / "stored")
    (stage / "latest").unlink(missing_ok=True)
    run.link_latest()
    latest = stage / "latest"
    assert latest.is_file() and latest.read_text() == "stored\n"
    assert find_run(latest).path == find_run(stage).path == run.path
    run.link_latest()  # again, over the file
    assert latest.read_text() == "stored\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_lock_of_a_shared_folder_is_opened_by_a_second_member(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2777)  # as a group's folder, for a user who is in no group of ours
    with locked(shared / "a.lock"):
        pass
    assert stat.S_IMODE((shared / "a.lock").stat().st_mode) == 0o666
    private = tmp_path / "private"
    private.mkdir(mode=0o755)
    with locked(private / "a.lock"):
        pass
    assert stat.S_IMODE((private / "a.lock").stat().st_mode) == 0o644
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    child = os.fork()
    if child == 0:  # pragma: no cover
        os.setgid(65534)
        os.setuid(65534)
        code = 1
        try:
            with locked(shared / "a.lock") as mine:
                code = 0 if mine is not None else 2
            try:
                with locked(private / "a.lock"):
                    code = 3
            except UserError as error:
                code = code if "chmod g+w" in str(error) else 4
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_exported_weights_have_the_modes_of_the_umask(stored_run: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        out = tmp_path / "out"
        cli.main(["convert", f"run={stored_run}", "to=safetensors", f"out={out}"])
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in out.rglob("*") if p.is_file()} == {0o640}


@pytest.mark.slow
def test_run_on_a_file_system_without_locks_and_links(tmp_path: Path) -> None:
    faults = Faults(tmp_path / "patch").no_flock().no_symlink()
    with started(tmp_path / "runs", *TINY, **faults.environment()) as run:
        assert run.end() == 0, run.said
        assert faults.struck == {"flock", "symlink"}
        assert run.said.count("has no locks") == 1
    latest = tmp_path / "runs/tiny/diffusion/latest"
    assert latest.is_file()
    cli.main(["sample", f"run={latest}", "num_samples=1", f"out={tmp_path}/out"])
    assert (tmp_path / "out/00000.png").is_file()
