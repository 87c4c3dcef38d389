"""What a layout on disk yields: one sample, still encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ldmlab.data.decoding import LabelMap


@dataclass(frozen=True)
class Sample:
    """One image with what is known of it; a field is None where the data has no such thing.

    Attributes:
        image: The image's file.
        label: Number of its class.
        mask: Its segmentation mask.
        caption: Its text.
    """

    image: bytes
    label: int | None = None
    mask: LabelMap | None = None
    caption: str | None = None


@runtime_checkable
class Layout(Protocol):
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
        """The sample's text alone; None where the data has no captions."""
        ...
