"""Runs the jobs of a multirun, each as a fresh single-run process.

A job in the sweeping process would inherit what the job before left behind: process groups,
ports, ranks, CUDA contexts. Only a process of its own is the same as a run typed by hand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ldmlab.core.files import write_json

_RESULT = "LDMLAB_RESULT_FILE"
_INHERITED = (
    "RANK LOCAL_RANK GROUP_RANK NODE_RANK ROLE_RANK WORLD_SIZE LOCAL_WORLD_SIZE "
    "GROUP_WORLD_SIZE ROLE_WORLD_SIZE MASTER_ADDR MASTER_PORT PL_GLOBAL_SEED HYDRA_FULL_ERROR"
).split()


# A job inside an allocation of SLURM is no task of it: it starts its own processes.
_INHERITED_PREFIXES = ("TORCHELASTIC_", "SLURM_", "PMI")
# Handed on to the job, which saves; the sweeping process then leaves as if it had got it alone.
_FORWARDED = (signal.SIGTERM, signal.SIGUSR1)
_LOOK_EVERY = 1.0


@dataclass(frozen=True)
class Job:
    """One finished job of a multirun.

    Attributes:
        overrides: Its arguments.
        code: What it exited with.
        seconds: How long it took.
        metrics: What it reported.
        stopped: Whether `watch` ended it.
    """

    overrides: tuple[str, ...]
    code: int
    seconds: float
    metrics: Mapping[str, float]
    stopped: bool = False


def run_job(
    program: Sequence[str],
    overrides: Sequence[str],
    log: Path | None = None,
    watch: Callable[[], bool] | None = None,
    holds: Sequence[int] = (),
) -> Job:
    """Run one job to its end, whatever that is.

    Args:
        program: The command that starts a single run.
        overrides: The job's arguments, as a user would type them.
        log: File that its output is added to; None shows it.
        watch: Looks at the job every second, and once after its end; True asks it to save and
            stop.
        holds: File descriptors that the job keeps open too, such as those of locks.

    Returns:
        What became of it, with the metrics that it reported.

    Raises:
        SystemExit: This process was asked to stop; the job has saved and stopped before.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ldmlab-job-") as folder:
        result = Path(folder) / "metrics.json"
        environment = {**_clean(os.environ), _RESULT: str(result)}
        command = [*program, *overrides, "hydra.mode=RUN"]
        with nullcontext() if log is None else log.open("ab") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, pass_fds=holds
            )
            code, told = _wait(process, watch)
        metrics = json.loads(result.read_text()) if result.exists() else {}
    return Job(tuple(overrides), code, time.monotonic() - start, metrics, told)


def report(metrics: Mapping[str, float]) -> None:
    """Tell a sweeping parent process, if there is one, the final metrics of this run."""
    path = os.environ.get(_RESULT)
    if path is not None:
        finite = {name: float(value) for name, value in metrics.items() if value - value == 0}
        write_json(path, finite)


def table(jobs: Sequence[Job]) -> str:
    """A line per job: number, exit code, seconds, overrides."""
    rows = [("job", "exit", "seconds", "overrides")]
    for i, job in enumerate(jobs):
        rows.append((str(i), str(job.code), f"{job.seconds:.1f}", " ".join(job.overrides)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def last_words(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "no output"


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name not in _INHERITED and not name.startswith(_INHERITED_PREFIXES)
    }


def _wait(process: subprocess.Popen[bytes], watch: Callable[[], bool] | None) -> tuple[int, bool]:
    """Wait for a job, handing on the signals that ask it to save and stop."""
    stopped: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        told = watch is not None and _observe(process, watch)
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal interrupted the job as well: let it save
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped:
        sys.exit(128 + stopped[0])
    # A job killed by a signal counts as a shell would count it.
    return (code if code >= 0 else 128 - code), told


def _observe(process: subprocess.Popen[bytes], watch: Callable[[], bool]) -> bool:
    """Look at a job until it ends; gives whether it was told to."""
    while process.poll() is None:
        if watch():
            process.terminate()
            return True
        try:
            process.wait(_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue
    watch()
    return False
