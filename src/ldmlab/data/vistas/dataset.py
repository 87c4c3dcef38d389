"""The vistas as a data set: images, classes, masks and captions of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from ldmlab.core.ranges import multiple_of, natural, one_of, whole_in
from ldmlab.core.records import Batch
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.vistas.caption import captions
from ldmlab.data.vistas.render import render
from ldmlab.data.vistas.scene import CLASSES, Scenes, sample_scenes

_SPAN = 10**9
Split = Literal["train", "validation", "test", "compositions"]
SPLITS: dict[Split, range] = {
    name: range(k * _SPAN, (k + 1) * _SPAN) for k, name in enumerate(get_args(Split))
}
"""The world's indices that each split may use; "compositions" shows held-out triples only."""


class Vistas(Dataset[Batch]):
    """A finite window on the procedural landscapes, rendered on demand.

    Args:
        split: A key of `SPLITS`.
        num_samples: How many images the data set holds.
        image_size: Side of the pictures in pixels, a multiple of 8.
        seed: Seed of the world; another seed is another world with the same rules.

    Raises:
        ArgumentError: The split is unknown, or a number is out of range.
    """

    channels = 3
    classes: tuple[str, ...] = CLASSES

    def __init__(
        self,
        split: Split = "train",
        num_samples: int = 12_000,
        image_size: int = 32,
        seed: int = 0,
    ) -> None:
        one_of(Split)(split=split)
        whole_in(1, _SPAN)(num_samples=num_samples)
        multiple_of(8)(image_size=image_size)
        natural(seed=seed)
        self.split, self.num_samples = split, num_samples
        self.image_size, self.seed = image_size, seed

    def __len__(self) -> int:
        return self.num_samples

    def scenes(self, indices: Sequence[int]) -> Scenes:
        """What the images at these positions of the data set contain.

        Args:
            indices: Positions from 0 to `len(self) - 1`.

        Returns:
            One scene per position.

        Raises:
            IndexError: A position is outside of the data set.
        """
        positions = np.asarray(indices, np.int64)
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"positions {indices} leave a data set of {len(self)} images")
        world = positions + SPLITS[self.split].start
        return sample_scenes(self.seed, world, held_out=self.split == "compositions")

    def __getitem__(self, index: int) -> Batch:
        """The image at one position, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The images at these positions, rendered together."""
        scenes = self.scenes(indices)
        images, masks = render(scenes, self.image_size)
        return Batch(
            index=torch.as_tensor(indices, dtype=torch.int64),
            image=to_unit_range(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()),
            label=torch.from_numpy(scenes.label.astype(np.int64)),
            mask=torch.from_numpy(masks).long(),
            caption=captions(scenes),
        )

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        """The captions at these positions, nothing rendered."""
        return captions(self.scenes(indices))
