"""A lock is held as long as anyone who inherited it lives, or by one process alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ldmlab.core.locks import locked


@pytest.mark.timeout(5)  # a lock that waits does so for ever
def test_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path) as first, locked(path, wait=False) as second:
        assert first is not None and second is None
    with locked(path, wait=False) as third:
        assert third is not None


def test_lock_is_inherited_by_a_child_process(tmp_path: Path) -> None:
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


_FORKS = """
import os, sys, time
from ldmlab.core.locks import locked
with locked(sys.argv[1], inherited=False):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def test_lock_that_is_not_inherited_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    command = [sys.executable, "-c", _FORKS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        with locked(path, wait=False, inherited=False) as mine:
            assert mine is None
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)  # it lives
            with locked(path, wait=False, inherited=False) as mine:
                assert mine is not None
        finally:
            os.kill(child, signal.SIGKILL)
