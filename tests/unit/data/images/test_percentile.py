"""Percentiles of training images, against numpy's over all values at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.percentile import Histogram, measured_range, settle_values
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.images.transform import Transform
from ldmlab.data.sampling.datasets import Subset
from ldmlab.data.sources.image_folder import ImageFolder

RNG = np.random.default_rng(0)
SHARES = [0, 0.5, 3, 50, 99.93, 100]  # a rank that is whole but for rounding is numpy's choice


@pytest.mark.parametrize("share", SHARES)
def test_whole_numbers_have_exact_percentiles(share: float) -> None:
    values = RNG.integers(0, 65536, 5000).astype(np.float32)
    histogram = Histogram()
    for part in np.split(values, 10):
        histogram.add(part)
    assert histogram.percentile(share) == np.percentile(values, share, method="inverted_cdf")


@pytest.mark.parametrize("share", SHARES)
def test_floats_of_any_sign_and_size_have_close_percentiles(share: float) -> None:
    values = (RNG.normal(size=5000) * 10.0 ** RNG.integers(-3, 6, 5000)).astype(np.float32)
    values[:100] = np.arange(100)  # some that are whole
    histogram = Histogram()
    histogram.add(values)
    exact = float(np.percentile(values, share, method="inverted_cdf"))
    assert histogram.percentile(share) == pytest.approx(exact, rel=1e-3)


def dataset(root: Path, split: str, **options: object) -> ImageDataset:
    pixels = Pixels(2, 16, value_percentile=[10, 90])
    source = ImageFolder(split, root, **options)  # type: ignore[arg-type]
    return ImageDataset(source, Transform(4, pixels=pixels), 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k in range(8):
        planes = np.stack([RNG.integers(0, 100, (4, 4)), RNG.integers(500, 900, (4, 4))])
        np.save(tmp_path / f"{k}.npy", planes.astype(np.uint16))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    return tmp_path


def test_both_splits_are_read_with_what_training_images_say(root: Path) -> None:
    train, validation = dataset(root, "train"), dataset(root, "validation")
    names = [train.source.name(k) for k in range(len(train))]
    planes = [np.load(name) for name in names if "broken" not in name]
    pixels = settle_values(Subset(train, len(train)), validation)
    assert pixels is not None and pixels.measured is not None
    for channel, pair in enumerate(pixels.measured):
        every = np.concatenate([p[channel].ravel() for p in planes])
        assert list(pair) == np.percentile(every, [10, 90], method="inverted_cdf").tolist()
    assert train.transform.pixels == validation.transform.pixels == pixels
    assert pixels.values.value_range == pixels.measured
    # Training images alone, and the first of them only, where they are fewer.
    assert measured_range(train, 2) != pixels.measured
    assert float(validation[0].image.abs().max()) <= 1  # type: ignore[union-attr]


def test_values_without_a_spread_are_refused(tmp_path: Path) -> None:
    for k in range(2):
        np.save(tmp_path / f"{k}.npy", np.full((2, 4, 4), 7, np.uint16))
    with pytest.raises(UserError, match="are both 7"):
        measured_range(dataset(tmp_path, "train"))
