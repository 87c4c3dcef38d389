"""A lock is held as long as anyone who inherited it lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ldmlab.core.locks import locked


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path) as first, locked(path, wait=False) as second:
        assert first is not None and second is None
    with locked(path, wait=False) as third:
        assert third is not None


def test_a_job_holds_the_lock_of_its_dead_worker(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    wait = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    with locked(path) as held:
        assert held is not None
        job = subprocess.Popen(wait, stdin=subprocess.PIPE, pass_fds=[held])
    with job:
        with locked(path, wait=False) as again:
            assert again is None
        job.communicate()
    with locked(path, wait=False) as again:
        assert again is not None
