"""An epoch in windows of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from ldmlab.data.sampling.block_shuffle import Blocks, WindowedEpoch


@pytest.mark.parametrize("sizes", [[4], [3, 0, 5, 1], [1] * 20, [7, 100, 2, 30]])
@pytest.mark.parametrize("window", [1, 6, 1000])
def test_block_shuffle_permutes_with_few_open_blocks(sizes, window) -> None:
    blocks = Blocks(np.array(sizes), window)
    block = np.repeat(np.arange(len(sizes)), sizes)
    orders = [[WindowedEpoch(blocks, seed)[i] for i in range(sum(sizes))] for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert sum(sizes) < 9 or orders[0] != orders[2]
    for order in orders:
        assert sorted(order) == list(range(sum(sizes)))
        for k in np.unique(block):
            places = np.flatnonzero(block[order] == k)
            # A block is left behind after a window, and a window overshoots by its last block.
            assert places[-1] - places[0] < window + max(sizes)


def test_block_shuffle_keeps_blocks_under_a_limit() -> None:
    blocks = Blocks(np.array([3, 4, 2]), 5)
    assert blocks.first(5).sizes.tolist() == [3, 2, 0]
    assert blocks.first(99).sizes.tolist() == [3, 4, 2]


def test_samples_of_one_block_are_shuffled() -> None:
    for sizes, window in (([60], 1), ([60], 1000), ([30, 30], 1000)):
        order = [WindowedEpoch(Blocks(np.array(sizes), window), 3)[i] for i in range(60)]
        assert abs(np.corrcoef(order, np.arange(60))[0, 1]) < 0.5
        assert np.mean(np.abs(np.diff(order)) == 1) < 0.2
    # Of two windows of equal blocks, each has an order of its own.
    epoch = WindowedEpoch(Blocks(np.array([30, 30]), 1), 3)
    halves = [[epoch[i] % 30 for i in range(first, first + 30)] for first in (0, 30)]
    assert halves[0] != halves[1]
