"""Scikit-learn's 1,797 handwritten digits: small, real, and installed with the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from ldmlab.core.ranges import multiple_of, natural, one_of, whole_in
from ldmlab.core.records import Batch

Split = Literal["train", "validation", "test"]
SPLITS: dict[Split, slice] = {
    "train": slice(0, 1397),
    "validation": slice(1397, 1597),
    "test": slice(1597, 1797),
}
"""Which part of the seeded shuffle each split takes."""

_NATIVE = 8
_BRIGHTEST = 16.0


class Digits(Dataset[Batch]):
    """Handwritten digits of 8 x 8 pixels with 17 grey levels, as one-channel images.

    Args:
        split: A key of `SPLITS`.
        image_size: Side of the pictures in pixels; larger multiples of 8 repeat pixels.
        num_samples: Keep the first so many images of the split; all of them by default.
        seed: Seed of the shuffle that assigns images to splits.

    Raises:
        ArgumentError: The split is unknown, or a number is out of range.
    """

    channels = 1
    classes: tuple[str, ...] = (
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    )  # fmt: skip

    def __init__(
        self,
        split: Split = "train",
        image_size: int = _NATIVE,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        one_of(Split)(split=split)
        multiple_of(_NATIVE)(image_size=image_size)
        natural(seed=seed)
        available = SPLITS[split].stop - SPLITS[split].start
        whole_in(1, available).or_none(num_samples=num_samples)
        self.split, self.image_size, self.seed = split, image_size, seed
        rows = _shuffle(seed)[SPLITS[split]][:num_samples]
        digits = _load()
        pixels = torch.from_numpy(digits.images[rows]).float() / (_BRIGHTEST / 2) - 1
        repeat = image_size // _NATIVE
        self._images = pixels[:, None].repeat_interleave(repeat, 2).repeat_interleave(repeat, 3)
        self._labels = torch.from_numpy(digits.target[rows]).long()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Batch:
        """The image at one position, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The images at these positions."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        labels = self._labels[rows]
        return Batch(
            index=rows, image=self._images[rows], label=labels, caption=self.captions(indices)
        )

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        """The captions at these positions."""
        return tuple(f"the digit {self.classes[self._labels[i]]}" for i in indices)


def _load() -> Any:
    from sklearn.datasets import load_digits  # a slow import that only this data set needs

    return load_digits()


def _shuffle(seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """An order of the 1,797 images in which every split sees every writer."""
    return np.random.default_rng(seed).permutation(1797)
