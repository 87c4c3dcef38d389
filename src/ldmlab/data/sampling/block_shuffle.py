"""An epoch over data that is too large to be read in any order: shuffled in windows of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ldmlab.core.random import derive_seed


@dataclass(frozen=True)
class Blocks:
    """Samples that lie together on disk: the data set is one block after the other.

    Attributes:
        sizes: Number of samples in each block.
        window: Samples that are shuffled among each other, about: as many whole blocks.
    """

    sizes: Int[np.ndarray, " blocks"]
    window: int

    def first(self, count: int) -> Blocks:
        """The blocks of the first `count` samples."""
        ends = np.minimum(np.cumsum(self.sizes), count)
        return Blocks(np.diff(ends, prepend=0), self.window)


class WindowedEpoch:
    """A permutation in which only a window of blocks is in use at any time.

    The blocks are permuted, and then the samples of each window of consecutive blocks. It takes
    the memory of one window and of the blocks' number, at any size of the data.

    Args:
        blocks: Which samples lie together.
        seed: Seed of the epoch.
    """

    def __init__(self, blocks: Blocks, seed: int) -> None:
        self._seed = seed
        starts = np.cumsum(blocks.sizes) - blocks.sizes
        order = np.random.default_rng(seed).permutation(len(blocks.sizes))
        order = order[blocks.sizes[order] > 0]
        self._starts, self._sizes = starts[order], blocks.sizes[order]
        places = np.cumsum(self._sizes) - self._sizes
        window = places // blocks.window
        # A window begins with the first block whose own first place lies in it.
        self._firsts = np.flatnonzero(np.diff(window, prepend=-1))
        self._places = places[self._firsts]
        self._window, self._samples = -1, np.empty(0, np.int64)

    def __getitem__(self, place: int) -> int:
        """The sample at a place of the epoch."""
        window = int(np.searchsorted(self._places, place, "right")) - 1
        if window != self._window:
            self._window, self._samples = window, self._shuffled(window)
        return int(self._samples[place - self._places[window]])

    def _shuffled(self, window: int) -> Int[np.ndarray, " samples"]:
        first = self._firsts[window]
        last = self._firsts[window + 1] if window + 1 < len(self._firsts) else len(self._sizes)
        ranges = zip(self._starts[first:last], self._sizes[first:last], strict=True)
        samples = np.concatenate([np.arange(start, start + size) for start, size in ranges])
        return np.random.default_rng(derive_seed("window", self._seed, window)).permutation(samples)
