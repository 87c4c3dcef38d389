"""The memory of broken samples."""

from __future__ import annotations

import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.images.bad_samples import BadSamples


def test_bad_samples_take_little_memory() -> None:
    bad_samples = BadSamples(10**12, 3, "here")
    for index in (10**12 - 1, 7, 7, 7 + 1032):
        bad_samples.add(index, "x")
    assert bad_samples.indices() == [7, 1039, 10**12 - 1] and len(bad_samples) == 3
    assert 7 in bad_samples and 8 not in bad_samples
    with pytest.raises(UserError, match=r"4 samples in here cannot be read, data\.max_bad=3"):
        bad_samples.add(8, "x")
