"""How many threads compute, and how they wait for each other: settled before torch is imported."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def settle_threads(environment: MutableMapping[str, str], quota: Path = _QUOTA) -> None:
    """Let threads sleep while they wait, and be no more than the cores that a container may use.

    By default they spin: beside other programs on the same cores a step then takes three times as
    long as with sleeping ones (16 images of 64 x 64 on two cores at a load of 5). torch counts the
    machine's cores, whatever part of them a container is given. What the user has set stays.

    Args:
        environment: The process's, read by OpenMP when torch is loaded.
        quota: The control group's file of processor time.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = cores_within(quota)
    if cores is not None and cores < _cores():
        environment.setdefault("OMP_NUM_THREADS", str(cores))


def cores_within(quota: Path) -> int | None:
    """Cores that a control group's quota is worth; None where there is none.

    Args:
        quota: A file with microseconds of processor time and of the period that they are for.
    """
    try:
        share, period = quota.read_text().split()
        return max(1, math.ceil(int(share) / int(period)))
    except (OSError, ValueError):  # no such file, or `max`
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
