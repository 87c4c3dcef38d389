"""Parts of data sets."""

from __future__ import annotations

from ldmlab.data.digits import Digits
from ldmlab.data.sampling.datasets import StridedSubset


def test_strided_subset_spans_the_whole_data_set() -> None:
    whole = Digits("test", 8)
    part = StridedSubset(whole, 5)
    positions = part.__getitems__([0, 1, 2, 3, 4]).index.tolist()
    assert positions == [k * len(whole) // 5 for k in range(5)]
    assert part[3].image.equal(whole[positions[3]].image)
    assert part[3].label.equal(whole[positions[3]].label)
    assert part.captions([1, 2]) == whole.captions(positions[1:3])
    assert len(StridedSubset(whole, 10_000)) == len(whole)
