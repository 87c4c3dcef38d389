"""Locks between processes that no crash leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ldmlab.core.errors import UserError

# What file systems without locks answer, such as NFS and Lustre by some of their mount options.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_warned: set[int] = set()


@contextmanager
def locked(
    path: str | os.PathLike[str], wait: bool = True, inherited: bool = True
) -> Iterator[int | None]:
    """Hold the lock of a file, on any machine that shares the folder.

    Where the file system has no locks, a warning says so and the lock counts as held.

    Args:
        path: The file, made where it is missing and never removed.
        wait: Whether to wait for a process that holds it.
        inherited: Whether the lock belongs to the open file, and so to each process that has it:
            one that inherits the descriptor goes on holding the lock when the one that took it is
            gone. Otherwise it ends with this process, whatever this process has forked.

    Yields:
        The descriptor of the locked file, or None where another process holds it.

    Raises:
        UserError: The file cannot be opened.
    """
    lock = fcntl.flock if inherited else fcntl.lockf
    descriptor = _open(Path(path))
    try:
        try:
            lock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _warn(Path(path).parent, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a lock's file; whoever may write into its folder may open it too."""
    try:
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            with suppress(OSError):  # not every file system has modes
                os.fchmod(descriptor, 0o600 | path.parent.stat().st_mode & 0o666)
            return descriptor
        return os.open(path, os.O_RDWR)
    except PermissionError as error:
        raise UserError(
            f"{path} cannot be opened ({error.strerror}): whoever made it lets you write it with "
            f"chmod g+w {path}"
        ) from error


def _warn(folder: Path, descriptor: int) -> None:
    """Say it once a file system."""
    device = os.fstat(descriptor).st_dev
    if device in _warned:
        return
    _warned.add(device)
    warnings.warn(
        f"the file system of {folder} has no locks: start one process a run there, for nothing "
        "keeps two from writing the same files",
        stacklevel=1,
    )
