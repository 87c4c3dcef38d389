"""Inspects every sample of a data set once, as training would read it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.decode import BrokenFileError

_MANY = 500


@dataclass(frozen=True)
class Finding:
    """One sample, looked at.

    Attributes:
        name: Where it lies.
        problem: Why it cannot be used; None where it can.
        size: Width and height of the image, in pixels.
        digest: Hash of the image's bytes.
        label: Number of its class.
        mask_labels: Labels in its mask, 255 for unlabelled.
        captioned: Whether it has a text; None where the data has no captions.
        changes: What decoding and cutting change about the image, in words.
    """

    name: str
    problem: str | None = None
    size: tuple[int, int] | None = None
    digest: bytes = b""
    label: int | None = None
    mask_labels: tuple[int, ...] = ()
    captioned: bool | None = None
    changes: tuple[str, ...] = ()


class _Inspection(Dataset[Finding]):
    """The findings of a data set, by position.

    Args:
        pictures: What to look at.
    """

    def __init__(self, pictures: ImageDataset) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Finding:
        """Read one sample as training would."""
        name = self.pictures.source.name(index)
        try:
            sample, seen = self.pictures.look(index)
            transform = self.pictures.transform
            size = transform.pixels.size(sample.image)
            changes = transform.pixels.conversions(sample.image, transform.background)
            return Finding(
                name,
                size=size,
                digest=hashlib.blake2b(sample.image, digest_size=16).digest(),
                label=sample.label,
                mask_labels=() if seen.mask is None else tuple(seen.mask.unique().tolist()),
                captioned=None if sample.caption is None else bool(sample.caption),
                changes=(*changes, *transform.cuts(size)),
            )
        except BrokenFileError as error:
            return Finding(name, problem=str(error))


def inspect(pictures: ImageDataset, num_workers: int = 0) -> Iterator[Finding]:
    """Every sample of a data set, in order.

    Args:
        pictures: What to look at.
        num_workers: Processes that read, where there is much to read.

    Yields:
        What was found of each.
    """
    with warnings.catch_warnings():
        # How many processes a machine bears is the user's choice.
        warnings.filterwarnings("ignore", ".*This DataLoader will create.*")
        # A process takes seconds to start.
        num_workers = num_workers if len(pictures) >= _MANY else 0
        yield from DataLoader(_Inspection(pictures), batch_size=None, num_workers=num_workers)
