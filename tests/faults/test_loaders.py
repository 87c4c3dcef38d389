"""Processes that load data: killed, without shared memory, and asked to end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.faults.harness import ENDLESS, ROOT, loaders, started, told_in_one_line

from ldmlab.core.records import Batch
from ldmlab.data.sampling.loader import told_if_loader_died


class _Data:
    """Images of a mebibyte."""

    def __len__(self) -> int:
        return 1000

    def __getitems__(self, indices: list[int]) -> Batch:
        return Batch(torch.tensor(indices), torch.zeros(len(indices), 1, 512, 512))

    def captions(self, indices: list[int]) -> None:
        return None


# torch's words, of a signal's handler or of the queue, whichever comes first.
_DEATH = r"DataLoader worker .*(is killed by signal: Killed|exited unexpectedly)"

# In a process of its own: torch tells of a dead loader at each later death of any child.
_STRUCK = """
import os, signal, sys
from pathlib import Path
from tests.faults.test_loaders import _Data
from ldmlab.core.errors import UserError
from ldmlab.data.sampling.loader import batch_loader, told_if_loader_died
def strike(number):
    with told_if_loader_died():
        batches = iter(batch_loader(_Data(), [[k] for k in range(20)], 1))
        next(batches)
        me = os.getpid()
        for child in Path(f"/proc/{me}/task/{me}/children").read_text().split():
            os.kill(int(child), number)
            print("struck", number)
        print("batches", 1 + len(list(batches)))
for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
    strike(int(number))
try:
    strike(9)
except UserError as error:
    print("told:", error)
"""


@pytest.mark.timeout(120)
def test_loader_survives_signals_that_are_meant_for_the_run_and_its_death_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STRUCK],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    survived = [f"struck {n}" for n in (2, 10, 15)]
    assert lines[:6] == [line for one in survived for line in (one, "batches 20")], done.stderr
    assert lines[6] == "struck 9"
    assert re.search(_DEATH, lines[7]) and "lower data.num_workers" in lines[7]
    assert "Traceback" not in done.stderr


def test_other_errors_of_loading_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="another"), told_if_loader_died():
        raise RuntimeError("another")


_SMALL = """
import sys
from tests.faults.test_loaders import _Data
from ldmlab.core.errors import UserError
from ldmlab.data.sampling.loader import batch_loader
try:
    for batch in batch_loader(_Data(), [[0, 1, 2, 3]] * 4, 1):
        print("batch")
except UserError as error:
    print("refused:", error)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root may mount"
)
@pytest.mark.timeout(120)
def test_small_shared_memory_is_told_in_one_line() -> None:
    mount = "mount -t tmpfs -o size=2m tmpfs /dev/shm && df -k --output=size /dev/shm"
    command = f"{mount} && exec {sys.executable} -c '{_SMALL}'"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if "denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("nothing may be mounted here")
    assert "2048" in done.stdout  # the mount is there
    assert "refused: /dev/shm is too small" in done.stdout, done.stderr
    assert "data.num_workers=0" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_run_whose_loader_is_killed_ends_in_one_line(tmp_path: Path) -> None:
    with started(tmp_path, *ENDLESS, "data.num_workers=2") as run:
        run.wait_for_step(5)
        os.kill(loaders(run.process.pid)[0], signal.SIGKILL)
        assert run.end() == 2
        told_in_one_line(run.said, "DataLoader worker", "data.num_workers")
        assert re.search(_DEATH, run.said)
