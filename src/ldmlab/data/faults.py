"""The broken samples of a data set, counted over all processes that load it."""

from __future__ import annotations

import torch

from ldmlab.core.errors import UserError


class Faults:
    """Which samples could not be read; one memory for all loading processes.

    Args:
        size: Number of samples.
        limit: How many may be broken.
        where: The data set, for messages.
    """

    def __init__(self, size: int, limit: int, where: str) -> None:
        self.limit = limit
        self.where = where
        self._broken = torch.zeros(size, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return int(self._broken.sum())

    def __contains__(self, index: int) -> bool:
        return bool(self._broken[index])

    def indices(self) -> list[int]:
        """The broken samples in order."""
        return self._broken.nonzero()[:, 0].tolist()

    def add(self, index: int, message: str) -> None:
        """Count a broken sample.

        Args:
            index: Its position.
            message: Its file and what is wrong with it.

        Raises:
            UserError: They are more than the limit, or all.
        """
        self._broken[index] = True
        count = len(self)
        if count == len(self._broken):
            raise UserError(f"none of the {count} samples in {self.where} can be read: {message}")
        if count > self.limit:
            raise UserError(
                f"{count} samples in {self.where} cannot be read, data.max_bad={self.limit} are "
                f"allowed; the last: {message} (ldmlab data action=check names them all)"
            )
