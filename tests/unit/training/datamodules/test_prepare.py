"""What is kept of a data set's splits, and what a model is told of them."""

from __future__ import annotations

import torch

from ldmlab.core.records import Batch, DataSpec
from ldmlab.training.datamodules.prepare import prepare


class Words:
    """Samples of which each says its split and its number."""

    classes = ("a", "b", "c")

    def __init__(self, split: str, count: int) -> None:
        self.split, self.count = split, count

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.tensor(indices)
        image = rows[:, None, None, None].float()
        return Batch(rows, image, caption=self.captions(indices))

    def captions(self, indices: list[int]) -> tuple[str, ...]:
        return tuple(f"{self.split} {'x' * (index + 1)}" for index in indices)


def test_limits_keep_the_first_and_spread_the_unseen() -> None:
    train, validation, _ = prepare(
        Words("seen", 10), Words("unseen", 10), DataSpec(8, 1), limit=4, validation_limit=5
    )
    assert len(train) == 4 and len(validation) == 5
    assert train.__getitems__([0, 3]).index.tolist() == [0, 3]
    assert validation.__getitems__([0, 1, 4]).index.tolist() == [0, 2, 8]


def test_spec_tells_the_classes_and_words_of_training() -> None:
    _, _, spec = prepare(Words("seen", 3), Words("unseen", 5), DataSpec(8, 1), limit=2)
    assert spec.num_classes == 3 and spec.vocabulary is not None
    assert {"seen", "xx"} <= set(spec.vocabulary)
    assert not {"unseen", "xxx"} & set(spec.vocabulary)


def test_data_in_memory_is_the_data() -> None:
    train, _, _ = prepare(
        Words("seen", 6), Words("unseen", 2), DataSpec(8, 1), limit=4, in_memory=True
    )
    held = train.__getitems__([3, 1])
    assert held.image is not None and held.image.flatten().tolist() == [3.0, 1.0]
    assert held.caption == ("seen xxxx", "seen xx")
