"""Images from disk as a data set: any source, through one transform."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.core.ranges import natural
from ldmlab.core.records import Batch
from ldmlab.data.images.bad_samples import BadSamples
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.pixels import unit_range
from ldmlab.data.images.source import ImageSource, Sample
from ldmlab.data.images.transform import Example, Transform
from ldmlab.data.sampling.block_shuffle import Blocks
from ldmlab.data.sampling.step_batches import SeededIndex, blocks_of


class ImageDataset(Dataset[Batch]):
    """The samples of a source as the transform shows them.

    A `SeededIndex` of training shows a random view, a plain position the centre, unmirrored. In the
    place of a broken sample comes another one that depends on its position only.

    Args:
        source: Which samples there are, and their bytes.
        transform: How they are decoded, cut and mirrored.
        max_bad: How many broken samples to replace before giving up.

    Raises:
        UserError: The source is empty.
    """

    def __init__(self, source: ImageSource, transform: Transform, max_bad: int = 0) -> None:
        natural(max_bad=max_bad)
        if not len(source):
            raise UserError(f"{_where(source)} holds no samples; look at data.root")
        self.source, self.transform = source, transform
        self.bad_samples = BadSamples(len(source), max_bad, _where(source))

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.transform.pixels.channels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.source.classes

    @property
    def varies(self) -> bool:
        """Whether a sample looks, or reads, different at each visit."""
        return self.transform.varies or self.several_texts

    @property
    def several_texts(self) -> bool:
        """Whether some samples have several texts, of which each visit sees one."""
        return bool(getattr(self.source, "several_texts", False))

    @property
    def blocks(self) -> Blocks | None:
        """Which samples lie together on disk; None where that does not matter."""
        return blocks_of(self.source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Batch:
        """The sample at one position, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples at these positions.

        Raises:
            UserError: Too many of the data set's samples are broken.
        """
        frame = self.transform.frame
        image = torch.empty(len(indices), self.channels, frame.height, frame.width)
        labels: list[int] = []
        masks: list[Tensor] = []
        captions: list[str] = []
        for row, index in zip(image, indices, strict=True):
            sample, seen = self._load(index)
            # One at a time: a whole batch of floats leaves the processor's cache at each pass.
            unit_range(seen.image, out=row)
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
        texts = [self.source.caption(index) for index in indices]
        return tuple(text for text in texts if text is not None) or None

    def look(self, index: int, seed: int | None = None) -> tuple[Sample, Example]:
        """One sample, and what is seen of it.

        Args:
            index: Its position.
            seed: Decides what is random about the transform; None shows the centre.

        Raises:
            BrokenFileError: It cannot be used.
        """
        sample = self.source.read(index)
        return sample, self.transform(sample, seed)

    def _load(self, index: int) -> tuple[Sample, Example]:
        """The sample at a position, or the first readable one of its line of substitutes."""
        seed = index.seed if isinstance(index, SeededIndex) else None
        position = int(index)
        substitutes = random.Random(derive_seed("substitute", position))
        while True:
            if position not in self.bad_samples:
                try:
                    return self.look(position, seed)
                except BrokenFileError as error:
                    self.bad_samples.add(position, f"{self.source.name(position)} {error}")
            position = substitutes.randrange(len(self))


def broken_files(dataset: object) -> list[str]:
    """The broken files that any process has met, of a data set or what it was made from."""
    pictures = image_dataset_of(dataset)
    if pictures is None:
        return []
    damaged: Iterable[str] = getattr(pictures.source, "damaged", ())
    return [*damaged, *(pictures.source.name(index) for index in pictures.bad_samples.indices())]


def image_dataset_of(dataset: object) -> ImageDataset | None:
    """The images on disk that a data set was made from; None where it was made otherwise."""
    while dataset is not None and not isinstance(dataset, ImageDataset):
        dataset = getattr(dataset, "dataset", None)
    return dataset


def _where(source: ImageSource) -> str:
    return str(getattr(source, "root", type(source).__name__))
