"""The broken samples of a data set, counted over all processes that load it."""

from __future__ import annotations

import torch

from ldmlab.core.errors import UserError

_FREE = -1
_LATE = 1024  # processes may each add a fault before they see that the limit is reached


class BadSamples:
    """Which samples could not be read; one memory for all loading processes.

    An open hash table of positions, twice as large as there may be broken samples, however many
    samples there are. Its slots are written whole, so that processes need no lock; two that meet
    their faults in the same instant may lose one of them, which is then met again.

    Args:
        size: Number of samples.
        limit: How many may be broken.
        where: The data set, for messages.
    """

    def __init__(self, size: int, limit: int, where: str) -> None:
        self.size = size
        self.limit = limit
        self.where = where
        slots = 2 * min(size, limit + 1) + _LATE
        self._slots = torch.full((slots,), _FREE, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return int((self._slots != _FREE).sum())

    def __contains__(self, index: int) -> bool:
        return int(self._slots[self._slot(index)]) == index

    def indices(self) -> list[int]:
        """The broken samples in order."""
        return sorted(self._slots[self._slots != _FREE].tolist())

    def add(self, index: int, message: str) -> None:
        """Count a broken sample.

        Args:
            index: Its position.
            message: Its file and what is wrong with it.

        Raises:
            UserError: They are more than the limit, or all.
        """
        self._slots[self._slot(index)] = index
        count = len(self)
        if count == self.size:
            raise UserError(f"none of the {count} samples in {self.where} can be read: {message}")
        if count > self.limit:
            raise UserError(
                f"{count} samples in {self.where} cannot be read, data.max_bad={self.limit} are "
                f"allowed; the last: {message} (ldmlab data action=check names them all)"
            )

    def _slot(self, index: int) -> int:
        """Where a position is, or would be."""
        slot = index % len(self._slots)
        while int(self._slots[slot]) not in (_FREE, index):
            slot = (slot + 1) % len(self._slots)
        return slot
