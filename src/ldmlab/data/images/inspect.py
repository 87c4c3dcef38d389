"""Inspects every sample of a data set once, and reports what would disturb training."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch.utils.data import DataLoader, Dataset

from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.decode import BrokenFileError, image_size


@dataclass(frozen=True)
class Finding:
    """One sample, looked at.

    Attributes:
        name: Where it lies.
        problem: Why it cannot be used; None where it can.
        size: Width and height of the image, upright or not, in pixels.
        digest: Hash of the image's bytes.
        label: Number of its class.
        mask_labels: Labels in its mask, 255 for unlabelled.
        captioned: Whether it has a text; None where the data has no captions.
    """

    name: str
    problem: str | None = None
    size: tuple[int, int] | None = None
    digest: bytes = b""
    label: int | None = None
    mask_labels: tuple[int, ...] = ()
    captioned: bool | None = None


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
            return Finding(
                name,
                size=image_size(sample.image),
                digest=hashlib.blake2b(sample.image, digest_size=16).digest(),
                label=sample.label,
                mask_labels=() if seen.mask is None else tuple(seen.mask.unique().tolist()),
                captioned=None if sample.caption is None else bool(sample.caption),
            )
        except BrokenFileError as error:
            return Finding(name, problem=str(error))


def inspect(pictures: ImageDataset, num_workers: int = 0) -> Iterator[Finding]:
    """Every sample of a data set, in order.

    Args:
        pictures: What to look at.
        num_workers: Processes that read.

    Yields:
        What was found of each.
    """
    with warnings.catch_warnings():
        # How many processes a machine bears is the user's choice.
        warnings.filterwarnings("ignore", ".*This DataLoader will create.*")
        yield from DataLoader(_Inspection(pictures), batch_size=None, num_workers=num_workers)


@dataclass
class Report:
    """What was found in one split.

    Attributes:
        count: Samples.
        broken: Unusable samples and why.
        damaged: Archives that could be read in part only, and why.
        sizes: Widths and heights of the images.
        classes: Samples a class number.
        mask_labels: Samples in which a mask label occurs.
        captioned: Number of samples with a text.
        uncaptioned: Samples without a text, in data with captions.
        duplicates: Samples whose image is the same file as an earlier one's.
    """

    count: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    mask_labels: Counter[int] = field(default_factory=Counter)
    captioned: int = 0
    uncaptioned: list[str] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)

    def add(self, finding: Finding, earlier: dict[bytes, str]) -> None:
        """Count a sample.

        Args:
            finding: The sample.
            earlier: Names of the samples so far by the hash of their image; it is kept up.
        """
        self.count += 1
        if finding.problem is not None:
            self.broken[finding.name] = finding.problem
            return
        if finding.size is not None:
            self.sizes[finding.size] += 1
        if finding.label is not None:
            self.classes[finding.label] += 1
        self.mask_labels.update(finding.mask_labels)
        self.captioned += finding.captioned is True
        if finding.captioned is False:
            self.uncaptioned.append(finding.name)
        first = earlier.setdefault(finding.digest, finding.name)
        if first != finding.name:
            self.duplicates[finding.name] = first

    @property
    def usable(self) -> int:
        """Samples that can be trained on."""
        return self.count - len(self.broken)
