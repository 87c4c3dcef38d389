"""Makes processes that Lightning launches end with their launcher."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LAUNCHER = "LDMLAB_LAUNCHER"
_LOOK_EVERY = 1.0
# 128 + SIGTERM: asked to end.
_EXIT_CODE = 143


@contextmanager
def bound_to_launcher() -> Iterator[None]:
    """Let no launched process outlive this one, or this one the process that launched it.

    Before the first step nothing else would end it: it waits for the others until the strategy's
    timeout. Under torchrun and srun each process has a launcher that sees to it.
    """
    launcher = os.environ.get(_LAUNCHER)
    if launcher is not None:
        threading.Thread(target=_watch, args=(int(launcher),), daemon=True).start()
        yield
        return
    os.environ[_LAUNCHER] = str(os.getpid())  # for those that this process launches
    try:
        yield
    finally:
        del os.environ[_LAUNCHER]


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_LOOK_EVERY)
    os._exit(_EXIT_CODE)
