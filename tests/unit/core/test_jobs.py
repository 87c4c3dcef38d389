"""Jobs in processes of their own: watched, and stopped where that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from ldmlab.core.jobs import run_job


def test_watched_job_is_stopped_and_saves(tmp_path: Path) -> None:
    looks = iter([False, True])
    program = [sys.executable, "-S", "-c", "import time; print('here', flush=True); time.sleep(60)"]
    job = run_job(program, [], tmp_path / "log", lambda: next(looks))
    assert (job.code, job.stopped, (tmp_path / "log").read_text()) == (143, True, "here\n")
