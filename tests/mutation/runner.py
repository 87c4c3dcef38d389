"""Runs tests against a checkout with a fault in it, in forks of a process that is warm."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
_COPIED = ("src", "conf", "tests", "scripts", "benchmarks", "notebooks")
_FAILED = 1  # pytest's exit code when tests ran and some failed
_OUTCOMES = {0: "NOT SEEN", _FAILED: "seen", -signal.SIGALRM: "TOO SLOW"}


class Planted(Protocol):
    """A change of one file, and the tests that are to see it."""

    table: str
    name: str
    file: str
    tests: list[str]

    def planted(self, root: Path) -> str:
        """The text of the file with the change in it."""


def plant(faults: Sequence[Planted], processes: int, verbose: bool) -> Counter[str] | None:
    """Plant one after the other and tell what became of each.

    Returns:
        How many had which outcome; None where tests fail without a fault.
    """
    _warm_up()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copies = [_copy(Path(folder) / str(k)) for k in range(processes)]
        if not _clean(copies[0], faults, verbose):
            return None
        counts: Counter[str] = Counter()
        for fault, outcome, seconds, said in _each(copies, faults):
            counts[outcome] += 1
            print(f"{outcome:9} {seconds:5.1f} s  {fault.table}: {fault.name}", flush=True)
            if verbose or outcome.startswith("ERROR"):
                print(said)
    print(f"{len(faults)} faults: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return counts


def _warm_up() -> None:
    """What every test imports is imported once; the processes that run them are forks."""
    os.environ["OMP_NUM_THREADS"] = "1"
    # The forks leave each other what they compile, in the copies.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    import anyio.pytest_plugin  # noqa: F401
    import beartype  # noqa: F401
    import diffusers  # noqa: F401
    import hydra  # noqa: F401
    import hypothesis.strategies  # noqa: F401
    import lightning  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch  # noqa: F401
    import torchmetrics  # noqa: F401
    import torchvision  # noqa: F401


def _copy(folder: Path) -> Path:
    leave = shutil.ignore_patterns("__pycache__")
    for name in _COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def _clean(copy: Path, faults: Sequence[Planted], verbose: bool) -> bool:
    named = sorted({test for fault in faults for test in fault.tests})
    print(f"{len(faults)} faults, {len(named)} files and tests; first without a fault", flush=True)
    log = copy / "said.txt"
    began = time.monotonic()
    code = _wait(_start(copy, named, log, limit=1800))
    if code or verbose:
        print(log.read_text())
    print(f"{'passed' if not code else 'FAILED'} in {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


def _each(
    copies: list[Path], faults: Sequence[Planted]
) -> Iterator[tuple[Planted, str, float, str]]:
    idle, waiting = list(copies), list(reversed(faults))
    running: dict[int, tuple[Planted, Path, float]] = {}
    while waiting or running:
        while waiting and idle:
            fault, copy = waiting.pop(), idle.pop()
            _write(copy / fault.file, fault.planted(copy))
            pid = _start(copy, fault.tests, copy / "said.txt", limit=SECONDS)
            running[pid] = (fault, copy, time.monotonic())
        pid, status = os.wait()
        fault, copy, began = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        _end_group(pid)
        _write(copy / fault.file, (ROOT / fault.file).read_text("utf-8"))
        outcome = _OUTCOMES.get(code, f"ERROR {code}")
        yield fault, outcome, time.monotonic() - began, (copy / "said.txt").read_text()
        idle.append(copy)


def _start(copy: Path, tests: list[str], log: Path, limit: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    gc.freeze()  # pytest collects garbage after a run: not in what was there before
    os.chdir(copy)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.alarm(limit)
    for name in [name for name in sys.modules if name == "tests" or name.startswith("tests.")]:
        del sys.modules[name]
    sys.path[:] = [str(copy / "src"), *(path for path in sys.path if path != str(ROOT))]
    os.environ["PYTHONPATH"] = str(copy / "src")
    import pytest

    # pytest's own limit would take the place of the alarm.
    limits = ["-x", "--timeout=0", "-n", "0", "-m", ""]
    code = pytest.main([*limits, "-q", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(int(code))


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _end_group(pid: int) -> None:
    """What a killed test had started goes with it."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    # Two texts of one length written within a second look alike to Python's cache.
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()
