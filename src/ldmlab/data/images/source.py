"""The interface of data sources on disk: samples that are still encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ldmlab.data.images.decode import LabelMap


@dataclass(frozen=True)
class Sample:
    """One image with what is known of it; a field is None where the data has no such thing.

    Attributes:
        image: The image's file.
        label: Number of its class.
        mask: Its segmentation mask.
        caption: Its text.
        further: Other texts of the same image; a visit of training sees one of all.
    """

    image: bytes
    label: int | None = None
    mask: LabelMap | None = None
    caption: str | None = None
    further: tuple[str, ...] = ()


@runtime_checkable
class ImageSource(Protocol):
    """One split of a data set as it lies on disk: which samples there are, and their bytes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where the data has no classes."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        ...

    def read(self, index: int) -> Sample:
        """One sample.

        Raises:
            BrokenFileError: A file of the sample is missing or cannot be read.
        """
        ...

    def caption(self, index: int) -> str | None:
        """The sample's text, all of them in one where it has several; None without captions."""
        ...


def identity_of(source: ImageSource, count: int) -> Iterator[str]:
    """What tells the samples of a source from others, in their order, wherever they lie.

    A source may say so itself, by an attribute `identity` of lines, where names would cost reading.
    Others are known by their samples' names, from where these begin to differ.

    Args:
        source: Where the samples are.
        count: How many of the first are meant.
    """
    own: Iterator[str] | None = getattr(source, "identity", None)
    if own is not None:
        yield from own
        return
    names = [source.name(index) for index in range(count)]
    start = len(os.path.commonpath([min(names), max(names)]))
    yield from (name[start:] for name in names)
