"""Description of a run's environment: versions, commit and devices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ldmlab

_PACKAGES = (
    "ldmlab torch torchvision lightning hydra-core omegaconf torchmetrics wandb lpips numpy "
    "pillow safetensors tokenizers scikit-learn"
).split()


def describe_environment() -> dict[str, Any]:
    """Versions, commit and devices, as one JSON-ready table."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": _versions(),
        "commit": _commit(),
        "devices": _devices(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> dict[str, Any] | None:
    """The checkout's commit and whether files differ from it; None outside a checkout."""
    root = Path(ldmlab.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return {"hash": head, "modified": bool(_git(root, "status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _devices() -> list[str]:
    # Whoever trains has imported torch; nobody else should pay for it.
    torch = sys.modules.get("torch")
    names = [platform.processor() or platform.machine()]
    if torch is not None and torch.cuda.is_available():
        names += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return names
