"""The digits: real images, fixed splits, the same records as the world."""

from __future__ import annotations

import pytest
import torch

from ldmlab.core.errors import ArgumentError
from ldmlab.data.digits import SPLITS, Digits


def test_digits_splits_partition_the_images() -> None:
    sets = {split: Digits(split) for split in SPLITS}
    assert [len(data) for data in sets.values()] == [1397, 200, 200]
    rows = [tuple(image.flatten().tolist()) for data in sets.values() for image in data._images]
    assert len(rows) == 1797 and len(set(rows)) == 1797
    assert torch.equal(Digits("test")[3].image, sets["test"][3].image)  # type: ignore[arg-type]


def test_digits_batch_has_the_expected_fields() -> None:
    batch = Digits("train").__getitems__([0, 7, 30])
    assert batch.image is not None and batch.label is not None and batch.mask is None
    assert batch.image.shape == (3, 1, 8, 8)
    assert batch.image.min() == -1 and batch.image.max() == 1
    names = [Digits.classes[label] for label in batch.label]
    assert batch.caption == tuple(f"the digit {name}" for name in names)
    assert batch.index.tolist() == [0, 7, 30]


def test_larger_digits_repeat_pixels() -> None:
    small, large = Digits("test")[1].image, Digits("test", image_size=16)[1].image
    assert small is not None and large is not None
    assert torch.equal(torch.nn.functional.avg_pool2d(large, 2), small)


def test_every_digit_is_in_every_split() -> None:
    for split in SPLITS:
        assert set(Digits(split)._labels.tolist()) == set(range(10))


def test_digits_refuse_more_samples_than_a_split_has() -> None:
    with pytest.raises(ArgumentError, match=r"num_samples .* from 1 to 1397, or null; got 5000"):
        Digits(num_samples=5_000)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    pairs = zip(source.images, source.target, strict=True)
    labels = {tuple(image.flatten()): label for image, label in pairs}
    for split in SPLITS:
        data = Digits(split)
        batch = data.__getitems__(list(range(len(data))))
        assert batch.image is not None and batch.label is not None
        # White is 1 and black -1: 16 and 0 of the source's 17 grey levels.
        found = [tuple(((image + 1) * 8).flatten().tolist()) for image in batch.image]
        assert [labels[image] for image in found] == batch.label.tolist()
