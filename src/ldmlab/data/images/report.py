"""What was found in a split of a data set that would disturb training, in numbers and words."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ldmlab.core.records import UNLABELLED
from ldmlab.data.images.inspect import Finding


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
        changes: What the model does not see of the images as they are, and of how many.
        left_out: Files in the folder that are no images here, by what they are.
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
    changes: Counter[str] = field(default_factory=Counter)
    left_out: Mapping[str, int] = field(default_factory=dict)

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
        self.changes.update(finding.changes)
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

    def unusable(self, split: str, max_bad: int) -> str | None:
        """Why a training on it would stop; None where it would not.

        Args:
            split: Its name.
            max_bad: How many broken samples a training bears.
        """
        broken = len(self.broken)
        if not self.usable:
            first = next(iter(self.broken.items()), ("", ""))
            return (
                f"none of the {self.count} {split} samples can be used; the first: "
                f"{' '.join(first)}"
            )
        if broken > max_bad:
            first = next(iter(self.broken.items()))
            return (
                f"{broken} of {self.count} {split} samples cannot be used, "
                f"data.max_bad={max_bad} are allowed; the first: {' '.join(first)}"
            )
        return None

    def rows(self, classes: Sequence[str]) -> list[tuple[str, str]]:
        """Its numbers in words, each with its name.

        Args:
            classes: The names of the data's classes.
        """
        rows = [("samples", f"{self.count:,}")]
        sides = sorted(min(size) for size in self.sizes.elements())
        if sides:
            middle = statistics.median_low(sides)
            rows.append(("shorter side", f"{sides[0]} to {sides[-1]} px, median {middle}"))
            (width, height), often = self.sizes.most_common(1)[0]
            rows.append(("sizes", f"{len(self.sizes)}; {often:,} are {width} x {height}"))
        if classes:
            few, many = min(self.classes.values(), default=0), max(self.classes.values(), default=0)
            empty = len(classes) - len(self.classes)
            span = f"{few:,} to {many:,} samples each, {empty} empty"
            rows.append(("classes", f"{len(classes)}, {span}"))
        if self.mask_labels:
            labels = sorted(set(self.mask_labels) - {UNLABELLED})
            span = f", {labels[0]} to {labels[-1]}" if labels else ": no pixel has one"
            rows.append(("mask labels", f"{len(labels)} occur{span}"))
        if self.captioned or self.uncaptioned:
            missing = f"{len(self.uncaptioned):,} missing"
            rows.append(("captions", f"{self.captioned:,}, {missing}"))
        rows += [("changed", f"{count:,}: {what}") for what, count in self.changes.most_common()]
        rows += [("left out", f"{count:,} x {what}") for what, count in self.left_out.items()]
        rows.append(("duplicates", f"{len(self.duplicates):,}"))
        rows.append(("broken", f"{len(self.broken):,}"))
        return rows

    def remarks(self, most: int) -> list[str]:
        """A line for each sample that something is wrong with.

        Args:
            most: How many to name of each kind.
        """
        kinds = (
            [f"broken: {name} {why}" for name, why in self.broken.items()],
            [f"duplicate: {name} of {first}" for name, first in self.duplicates.items()],
            [f"damaged: {why}" for why in self.damaged.values()],
            [f"no caption: {name}" for name in self.uncaptioned],
        )
        return [line for lines in kinds for line in lines[:most]]

    def plain(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "count": self.count,
            "usable": self.usable,
            "sizes": {f"{w}x{h}": count for (w, h), count in sorted(self.sizes.items())},
            "classes": {str(label): count for label, count in sorted(self.classes.items())},
            "mask_labels": {str(k): count for k, count in sorted(self.mask_labels.items())},
            "broken": self.broken,
            "damaged": self.damaged,
            "captioned": self.captioned,
            "uncaptioned": self.uncaptioned,
            "duplicates": self.duplicates,
            "changes": dict(self.changes),
            "left_out": dict(self.left_out),
        }
