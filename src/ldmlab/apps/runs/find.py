"""Finds the run or the checkpoint that a path leads to."""

from __future__ import annotations

import os
from pathlib import Path

from ldmlab.apps.runs.folder import LATEST, RunFolder
from ldmlab.core.errors import UserError
from ldmlab.core.files import follow_link
from ldmlab.core.suggest import nothing_at


def find_run(path: str | os.PathLike[str]) -> RunFolder:
    """The run that a path means: its folder, a `latest` link, a stage's folder, a checkpoint.

    Raises:
        UserError: If the path leads to no run, with what is there and what to write instead.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(nothing_at(path))
    resolved = follow_link(path)
    candidates = [resolved, follow_link(resolved / LATEST)]
    if resolved.is_file():
        candidates = [resolved.parent, resolved.parent.parent]
    for candidate in candidates:
        if (candidate / "config.yaml").is_file():
            return RunFolder(candidate.resolve())
    found = sorted(p.parent for p in _folder(resolved).glob("*/*/config.yaml"))
    found += sorted(p.parent for p in _folder(resolved).glob("*/config.yaml"))
    listed = [str(p) for p in found if p.name == LATEST] or [str(p) for p in found]
    hint = f"; it holds {', '.join(listed[:3])}: name one" if listed else ": name a run's folder"
    raise UserError(f"{path} is no run (no config.yaml){hint}")


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path means: itself, or its run's last, best or newest one.

    Raises:
        UserError: If the path leads to no run, or the run has no checkpoint yet.
    """
    # Another file, such as config.yaml, leads to the run that it lies in.
    if Path(path).suffix == ".ckpt" and Path(path).is_file():
        return Path(path).resolve()
    run = find_run(path)
    named = [run.checkpoints / f"{name}.ckpt" for name in ("last", "best")]
    for candidate in [*named, *sorted(run.checkpoints.glob("step-*.ckpt"), reverse=True)]:
        if candidate.is_file():
            return candidate
    raise UserError(f"{run.path} has no checkpoint yet: train it first, or name another run")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent
