"""The memory of broken samples."""

from __future__ import annotations

import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.faults import Faults


def test_faults_are_remembered_in_little_memory() -> None:
    faults = Faults(10**12, 3, "here")
    for index in (10**12 - 1, 7, 7, 7 + 1032):
        faults.add(index, "x")
    assert faults.indices() == [7, 1039, 10**12 - 1] and len(faults) == 3
    assert 7 in faults and 8 not in faults
    with pytest.raises(UserError, match=r"4 samples in here cannot be read, data\.max_bad=3"):
        faults.add(8, "x")
