"""The planted faults fit the code as it is, and its tests see each of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.table import Fault, read_tables, tables

ROOT = Path(__file__).parents[2]
FAULTS = read_tables()


def test_tables_name_each_fault_once() -> None:
    assert [name for name, count in Counter(f.name for f in FAULTS).items() if count > 1] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.table}: {fault.name}")
def test_fault_can_be_planted(fault: Fault) -> None:
    planted = fault.planted(ROOT)
    assert planted != (ROOT / fault.file).read_text("utf-8")
    if fault.file.endswith(".py"):
        compile(planted, fault.file, "exec")
    for test in fault.tests:
        assert (ROOT / test.partition("::")[0]).exists(), test


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("table", tables())
def test_faults_are_seen(table: str) -> None:
    command = [sys.executable, "tests/mutation/run.py", table, "-j", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
