"""The order of the data as a function of seed and step."""

from __future__ import annotations

import pickle
from itertools import islice

import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.sampling.step_batches import StepBatches


def _steps(count: int, **options: int) -> list[list[int]]:
    return list(
        islice(StepBatches(**{"num_samples": 10, "batch_size": 4, "seed": 3} | options), count)
    )


def test_step_batches_show_every_sample_once_per_epoch() -> None:
    flat = [index for batch in _steps(10) for index in batch]
    for epoch in range(4):
        assert sorted(flat[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert flat[:10] != flat[10:20]


def test_step_batches_started_late_continue_the_same_stream() -> None:
    assert _steps(7, start=5) == _steps(12)[5:]


def test_step_batches_keep_their_seeds_through_pickling() -> None:
    visits = next(iter(StepBatches(10, 4, 3)))
    there = pickle.loads(pickle.dumps(visits))
    assert there == visits and [v.seed for v in there] == [v.seed for v in visits]
    again, other = next(iter(StepBatches(10, 4, 3))), next(iter(StepBatches(10, 4, 4)))
    assert [v.seed for v in again] == [v.seed for v in visits]
    assert not {v.seed for v in other} & {v.seed for v in visits}


def test_step_batches_divide_the_global_batch_among_processes() -> None:
    whole = _steps(6)
    parts = [_steps(6, rank=rank, world_size=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_step_batches_refuse_indivisible_and_empty_data() -> None:
    with pytest.raises(UserError, match="divided among 3"):
        StepBatches(10, 4, 0, world_size=3)
    with pytest.raises(UserError, match="no samples"):
        StepBatches(0, 4, 0)
