"""Locks between processes that no crash leaves behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def locked(
    path: str | os.PathLike[str], wait: bool = True, inherited: bool = True
) -> Iterator[int | None]:
    """Hold the lock of a file, on any machine that shares the folder.

    Args:
        path: The file, made where it is missing and never removed.
        wait: Whether to wait for a process that holds it.
        inherited: Whether the lock belongs to the open file, and so to each process that has it:
            one that inherits the descriptor goes on holding the lock when the one that took it is
            gone. Otherwise it ends with this process, whatever this process has forked.

    Yields:
        The descriptor of the locked file, or None where another process holds it.
    """
    lock = fcntl.flock if inherited else fcntl.lockf
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            lock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)
