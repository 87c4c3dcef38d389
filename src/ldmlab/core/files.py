"""Files that are either whole or absent: written beside their target, flushed, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ldmlab.core.errors import UserError

_SUFFIX = ".part"
_SIX_HOURS = 6 * 3600.0


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends without an exception.

    Args:
        path: The final name; its folder exists.

    Yields:
        A binary file under a temporary name in the same folder.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    path = Path(path)
    # A temporary file elsewhere may lie on another file system, where a rename copies.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}")
    with told_if_unwritable(path):
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _flush_folder(path.parent)
        finally:
            with suppress(OSError):  # what hindered writing may hinder this as well
                partial.unlink(missing_ok=True)


@contextmanager
def told_if_unwritable(path: Path) -> Iterator[None]:
    """Tell in one line that a file cannot be written.

    Raises:
        UserError: The system refused to write it.
    """
    try:
        yield
    except Exception as error:
        # torch.save ends with an error of its own where a write failed.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError) or isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} cannot be written ({reason.strerror or reason}): make room in {path.parent}, "
            "or let it be written; the same command then goes on"
        ) from error


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder that appears as `path` when the block ends without an exception.

    Args:
        path: The final name; what is there already, other than an empty folder, stays.

    Yields:
        A folder beside it, under a temporary name.

    Raises:
        FileExistsError: There is something at `path`.
    """
    path = Path(path).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}")
    partial.mkdir()
    try:
        yield partial
        # Onto an empty folder only: a rename never replaces one with files in it.
        partial.replace(path)
        _flush_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any] | list[Any]) -> None:
    """Write `value` atomically as JSON.

    Raises:
        ValueError: If a number is not finite, which JSON cannot say.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sweep_partial(folder: str | os.PathLike[str], age: float = _SIX_HOURS) -> list[Path]:
    """Remove what killed writers left in `folder`, and name it.

    Args:
        folder: Where files are written.
        age: Seconds since the last write after which a writer is taken for dead. Its process id
            would not tell: it may be of another machine that shares the folder.

    Returns:
        What was removed.
    """
    orphans = []
    for partial in sorted(Path(folder).glob(f".*{_SUFFIX}")):
        try:
            if time.time() - partial.stat().st_mtime > age:
                partial.unlink()
                orphans.append(partial)
        except OSError:  # just renamed or swept by another process, or not ours: leave it
            continue
    return orphans


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can flush folders at all."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
