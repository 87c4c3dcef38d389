"""Files that are either whole or absent: written beside their target, flushed, then renamed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ldmlab.core.errors import UserError

_PARTIAL = re.compile(r"\..+\.\d+-[0-9a-f]+\.part", re.DOTALL)
_SIX_HOURS = 6 * 3600.0
# What file systems without symbolic links answer, such as FAT and some network shares.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_LONGEST_NAME = 256


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
    with (
        told_if_unwritable(Path(path)),
        atomic_path(path) as partial,
        partial.open("xb") as file,
    ):
        yield file


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name for a file that takes the place of `path` when the block ends without an exception.

    Args:
        path: The final name; its folder exists.

    Yields:
        A temporary name in the same folder, under which the block writes the file.
    """
    path = Path(path)
    partial = _partial(path)
    try:
        yield partial
        with partial.open("rb") as file:
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


def make_folder(folder: Path, refusal: Callable[[str | None], str]) -> None:
    """Make a folder, with those that it lies in, where it is missing.

    Args:
        folder: The folder.
        refusal: What to say where the system refuses, by its reason.

    Raises:
        UserError: The system refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(refusal(error.strerror)) from error


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin to fill a folder for results, `out`, where that cannot end.

    Raises:
        UserError: There is less room than is needed, in bytes.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"out={folder} needs {needed / 2**30:.1f} GiB or more, and {free / 2**30:.1f} GiB are "
            "free: make room, or name a folder elsewhere with out=<folder>"
        )


def check_new(path: str | os.PathLike[str]) -> None:
    """Refuse a folder for results, `out`, that is there already, other than an empty one.

    Raises:
        UserError: There is something.
    """
    found = Path(path)
    if found.exists() and not (found.is_dir() and not any(found.iterdir())):
        raise UserError(f"out={path} exists and is not overwritten: name another folder")


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder for results, `out`, that appears when the block ends without an exception.

    Args:
        path: The final name; an empty folder may be there.

    Yields:
        A folder beside it, under a temporary name.

    Raises:
        UserError: There is something at `path`, or the system refused to write.
    """
    check_new(path)
    final = Path(path).absolute()
    partial = _partial(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep_partial(final.parent)
        partial.mkdir()
        yield partial
        _give_usual_modes(partial)
        # Onto an empty folder only: a rename never replaces one with files in it.
        partial.replace(final)
        _flush_folder(final.parent)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"out={path} cannot be written ({reason})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def point_link(link: Path, name: str) -> None:
    """Point a symbolic link at a folder beside it, in the place of another one.

    Where the file system has no links, a file of that name holds the folder's: see `follow_link`.

    Raises:
        UserError: The system refused to make it.
    """
    fresh = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
    # Relative, so that the whole tree can be moved; renamed, so that it never lacks.
    with told_if_unwritable(link):
        try:
            fresh.symlink_to(name, target_is_directory=True)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            write_text(fresh, name + "\n")
        fresh.replace(link)


def follow_link(path: Path) -> Path:
    """The folder that a link of `point_link` leads to; any other path as it is, links followed."""
    if path.is_file() and not path.suffix and path.stat().st_size <= _LONGEST_NAME:
        target = path.parent / path.read_text(errors="replace").strip()
        if target.parent == path.parent and target.is_dir():
            return target.resolve()
    return path.resolve()


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
        folder: Where files and folders are written.
        age: Seconds since the last write after which a writer is taken for dead. Its process id
            would not tell: it may be of another machine that shares the folder.

    Returns:
        What was removed.
    """
    orphans = []
    for partial in sorted(Path(folder).glob(".*.part")):
        if not _PARTIAL.fullmatch(partial.name):  # another program's
            continue
        try:
            written = max(path.stat().st_mtime for path in (partial, *partial.rglob("*")))
            if time.time() - written > age:
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
                orphans.append(partial)
        except OSError:  # just renamed or swept by another process, or not ours: leave it
            continue
    return orphans


def _partial(path: Path) -> Path:
    # A temporary file elsewhere may lie on another file system, where a rename copies.
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")


def _give_usual_modes(folder: Path) -> None:
    """Let the files of a folder be read by those whom the umask lets: some writers ask for less."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o666 & ~mask)


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can flush folders at all."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
