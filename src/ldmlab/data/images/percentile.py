"""Percentiles of the values in training images, each image read once, in little memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.core.pixel_values import ValueRange
from ldmlab.data.images.dataset import ImageDataset, image_dataset_of
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.sampling.datasets import BatchDataset

_WHOLE = 2**16  # values from 0 up that are counted one by one
_DROPPED = 12  # of the 32 bits of a float: its last places, 0.05% of its value


class Histogram:
    """How often values occur: whole numbers up to 16 bits exactly, others within 0.05%."""

    def __init__(self) -> None:
        self._whole = np.zeros(_WHOLE, np.int64)
        self._floats = np.zeros(2 ** (32 - _DROPPED), np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values, float32."""
        flat = values.ravel()
        whole = (flat >= 0) & (flat < _WHOLE) & (flat == np.floor(flat))
        self._whole += np.bincount(flat[whole].astype(np.int64), minlength=_WHOLE)
        if not whole.all():
            bins = np.bincount(_ordered(flat[~whole]) >> _DROPPED, minlength=len(self._floats))
            self._floats += bins

    def percentile(self, share: float) -> float:
        """The smallest value that so many percent of all do not exceed."""
        some = np.flatnonzero(self._whole)
        bins = np.flatnonzero(self._floats)
        values = np.concatenate([some.astype(np.float32), _values_of(bins << _DROPPED)])
        counts = np.concatenate([self._whole[some], self._floats[bins]])
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(counts[order])
        # Less what the product rounds up: 99.9% of 5000 are 4995.
        rank = max(1, int(np.ceil(reached[-1] * share / 100 - 1e-6)))
        return float(values[order][np.searchsorted(reached, rank)])


def settle_values(
    train: BatchDataset, validation: BatchDataset, limit: int | None = None
) -> Pixels | None:
    """Measure what is to be measured on training images; both splits are read with it from now on.

    Args:
        train: The training split.
        validation: The validation split.
        limit: How many of the first training images are meant; None for all.

    Returns:
        How both are read; None where they are no images on disk.

    Raises:
        UserError: No training image can be read, or all of their values are the same.
    """
    pictures = image_dataset_of(train)
    if pictures is None:
        return None
    pixels: Pixels = pictures.transform.pixels
    if pixels.value_percentile is not None and pixels.measured is None:
        pixels = pixels.with_range(measured_range(pictures, limit))
    use_values(train, pixels.measured)
    use_values(validation, pixels.measured)
    return pixels


def use_values(data: object, measured: ValueRange | None) -> None:
    """Read images with percentiles that were measured before."""
    pictures = image_dataset_of(data)
    if pictures is not None:
        pictures.transform.pixels = pictures.transform.pixels.with_range(measured)


def measured_range(pictures: ImageDataset, limit: int | None = None) -> ValueRange:
    """What the percentiles of a data set come to, a pair for each channel.

    Args:
        pictures: Training images, whole, as they lie on disk.
        limit: How many of the first are meant; None for all.

    Raises:
        UserError: No image can be read, or all values are the same.
    """
    pixels = pictures.transform.pixels
    assert pixels.value_percentile is not None
    low, high = pixels.value_percentile
    histograms = [Histogram() for _ in range(pixels.channels)]
    images = 0
    for values in _stored(pictures, limit):
        images += 1
        for histogram, channel in zip(histograms, values, strict=True):
            histogram.add(channel)
    if not images:
        raise UserError(
            "data.value_percentile cannot be measured, as no training image can be read: ldmlab "
            "data action=check names them"
        )
    pairs = tuple((h.percentile(low), h.percentile(high)) for h in histograms)
    for number, (least, most) in enumerate(pairs):
        if least == most:
            raise UserError(
                f"data.value_percentile=[{low:g},{high:g}] of channel {number} are both {least:g}: "
                "take others, or set data.value_range"
            )
    return pairs


def _stored(pictures: ImageDataset, limit: int | None) -> Iterator[np.ndarray]:
    transform = pictures.transform
    count = len(pictures) if limit is None else min(limit, len(pictures))
    for index in range(count):
        try:
            data = pictures.source.read(index).image
            yield transform.pixels.stored(data, transform.background).numpy()
        except BrokenFileError:  # it is counted where it is trained on
            continue


def _ordered(values: np.ndarray) -> np.ndarray:
    """Whole numbers that order floats as their values do."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.int64)
    return np.where(bits >> 31, (~bits) & 0xFFFFFFFF, bits | 0x80000000)


def _values_of(ordered: np.ndarray) -> np.ndarray:
    bits = np.where(ordered >> 31, ordered & 0x7FFFFFFF, (~ordered) & 0xFFFFFFFF)
    return bits.astype(np.uint32).view(np.float32)
