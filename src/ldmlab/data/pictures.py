"""Images from disk as a data set: any layout, through one view."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.core.records import Batch
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.batches import Visit, blocks_of
from ldmlab.data.decoding import BrokenFileError
from ldmlab.data.faults import Faults
from ldmlab.data.sample import Layout, Sample
from ldmlab.data.view import Seen, View
from ldmlab.data.windows import Blocks


class Pictures(Dataset[Batch]):
    """The samples of a layout as the view shows them.

    A `Visit` of training shows a random view, a plain position the centre, unmirrored. In the
    place of a broken sample comes another one that depends on its position only.

    Args:
        layout: Which samples there are, and their bytes.
        view: How they are decoded, cut and mirrored.
        max_bad: How many broken samples to replace before giving up.

    Raises:
        UserError: The layout is empty.
    """

    channels = 3

    def __init__(self, layout: Layout, view: View, max_bad: int = 0) -> None:
        if not len(layout):
            raise UserError(f"{_where(layout)} holds no samples; look at data.root")
        self.layout, self.view = layout, view
        self.image_size = view.image_size
        self.faults = Faults(len(layout), max_bad, _where(layout))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.layout.classes

    @property
    def blocks(self) -> Blocks | None:
        """Which samples lie together on disk; None where that does not matter."""
        return blocks_of(self.layout)

    def __len__(self) -> int:
        return len(self.layout)

    def __getitem__(self, index: int) -> Batch:
        """The sample at one position, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples at these positions.

        Raises:
            UserError: Too many of the data set's samples are broken.
        """
        image = torch.empty(len(indices), self.channels, self.image_size, self.image_size)
        labels: list[int] = []
        masks: list[Tensor] = []
        captions: list[str] = []
        for row, index in zip(image, indices, strict=True):
            sample, seen = self._load(index)
            # One at a time: a whole batch of floats leaves the processor's cache at each pass.
            to_unit_range(seen.image, out=row)
            if sample.label is not None:
                labels.append(sample.label)
            if seen.mask is not None:
                masks.append(seen.mask)
            if seen.caption is not None:
                captions.append(seen.caption)
        return Batch(
            index=torch.tensor([int(index) for index in indices], dtype=torch.int64),
            image=image,
            label=torch.tensor(labels) if labels else None,
            mask=torch.stack(masks) if masks else None,
            caption=tuple(captions) if captions else None,
        )

    def captions(self, indices: Sequence[int]) -> tuple[str, ...] | None:
        """The texts at these positions without their images."""
        texts = [self.layout.caption(index) for index in indices]
        return tuple(text for text in texts if text is not None) or None

    def look(self, index: int, seed: int | None = None) -> tuple[Sample, Seen]:
        """One sample, and what is seen of it.

        Args:
            index: Its position.
            seed: Decides what is random about the view; None shows the centre.

        Raises:
            BrokenFileError: It cannot be used.
        """
        sample = self.layout.read(index)
        return sample, self.view(sample, seed)

    def _load(self, index: int) -> tuple[Sample, Seen]:
        """The sample at a position, or the first readable one of its line of substitutes."""
        seed = index.seed if isinstance(index, Visit) else None
        position = int(index)
        substitutes = random.Random(derive_seed("substitute", position))
        while True:
            if position not in self.faults:
                try:
                    return self.look(position, seed)
                except BrokenFileError as error:
                    self.faults.add(position, f"{self.layout.name(position)} {error}")
            position = substitutes.randrange(len(self))


def broken_files(dataset: object) -> list[str]:
    """The broken files that any process has met, of a data set or what it was made from."""
    pictures = pictures_of(dataset)
    if pictures is None:
        return []
    damaged: Iterable[str] = getattr(pictures.layout, "damaged", ())
    return [*damaged, *(pictures.layout.name(index) for index in pictures.faults.indices())]


def pictures_of(dataset: object) -> Pictures | None:
    """The images on disk that a data set was made from; None where it was made otherwise."""
    while dataset is not None and not isinstance(dataset, Pictures):
        dataset = getattr(dataset, "dataset", None)
    return dataset


def _where(layout: Layout) -> str:
    return str(getattr(layout, "root", type(layout).__name__))
