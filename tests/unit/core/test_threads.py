"""Threads: settled from the container's quota, and never against what the user has set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ldmlab.core.threads import cores_within, settle_threads


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("5000 100000\n", 1),
        ("max 100000\n", None),
        ("strange\n", None),
    ],
)
def test_cores_are_those_of_the_quota(tmp_path: Path, text: str, cores: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert cores_within(quota) == cores


def test_cores_without_a_quota_are_not_known(tmp_path: Path) -> None:
    assert cores_within(tmp_path / "none") is None


def test_threads_follow_a_quota_below_the_cores(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    environment: dict[str, str] = {}
    settle_threads(environment, quota)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert environment.get("OMP_NUM_THREADS") == ("1" if cores != 1 else None)
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    quota.write_text(f"{10_000 * 100_000} 100000\n")
    environment = {}
    settle_threads(environment, quota)
    assert "OMP_NUM_THREADS" not in environment


def test_threads_stay_as_the_user_has_set_them(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    environment = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}
    settle_threads(environment, quota)
    assert environment == {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}


def test_threads_are_settled_before_torch_is_imported() -> None:
    code = (
        "import sys, os; sys.argv = ['ldmlab', '--version']\n"
        "from ldmlab.apps.cli.main import main\n"
        "assert 'torch' not in sys.modules\n"
        "main()\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "PASSIVE"
