"""Which processes of a distributed run are still alive."""

from __future__ import annotations

import threading
import time

from torch.distributed.distributed_c10d import _get_default_store

_EVERY = 1.0
# Long enough for a count of each process that lives, and for an answer of the store.
_LOOK, _ANSWER = 3.5, 8.0


class Heartbeat:
    """Counts seconds where all processes can read it, on a thread of its own.

    A process that was stopped, or whose machine is gone, counts no further; one that waits for
    another does. Clocks are not compared: machines have their own.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self._store = _get_default_store()
        self._ended = threading.Event()
        # At once: a process may be stopped before its thread has counted a second.
        self._store.set(_key(rank), "0")
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self) -> None:
        """Stop counting."""
        self._ended.set()

    def silent(self) -> list[int]:
        """The other processes that count no further, found in some seconds."""
        # Process 0 keeps the counts: where it is the silent one, nothing answers.
        found = [0] if self.rank else []

        def look() -> None:
            before = self._counts()
            time.sleep(_LOOK)
            after = self._counts()
            found[:] = [r for r in before if r != self.rank and after[r] == before[r]]

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(_ANSWER)
        return list(found)

    def _counts(self) -> dict[int, bytes]:
        keys = {rank: _key(rank) for rank in range(self.world_size)}
        return {r: self._store.get(k) for r, k in keys.items() if self._store.check([k])}

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(_EVERY):
            count += 1
            try:
                self._store.set(_key(self.rank), str(count))
            except RuntimeError:  # whoever kept the counts has ended
                return


def _key(rank: int) -> str:
    return f"ldmlab/heartbeat/{rank}"
