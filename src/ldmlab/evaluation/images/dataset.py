"""Images of a data set as a model sees them, and what a model makes of images or of noise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.evaluation.images.image_set import ImageSet, Pictures, as_pictures


class DatasetImages(ImageSet):
    """A split of a data set, each image in its plain view: the centre, unmirrored.

    Args:
        dataset: The split.
        name: What to call it.
        identity: What decides its pixels, in terms of JSON.
        change: What becomes of a batch's images before they are judged; nothing by default.
    """

    def __init__(
        self,
        dataset: BatchDataset,
        name: str,
        identity: Mapping[str, Any],
        change: Callable[[Batch], Float[Tensor, "b c h w"]] | None = None,
    ) -> None:
        self.dataset, self.name, self._identity = dataset, name, identity
        self._change = change
        self.classes = _classes_of(dataset)

    def of(
        self,
        dataset: BatchDataset,
        called: str,
        change: Callable[[Batch], Float[Tensor, "b c h w"]] | None = None,
        **identity: Any,
    ) -> DatasetImages:
        """Some of these images, or what becomes of them.

        Args:
            dataset: Which, in their order; their number tells which.
            called: What stands before the name.
            change: What becomes of a batch's images.
            **identity: What decides the change, in terms of JSON.
        """
        name = f"{called}{len(dataset)} images of {self.name}"
        return DatasetImages(dataset, name, {**self._identity, **identity}, change)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, rows: range) -> Pictures:
        """The images at these positions."""
        batch = self.dataset.__getitems__(list(rows))
        assert batch.image is not None
        images = batch.image if self._change is None else self._change(batch)
        return Pictures(as_pictures(images, self.name), batch.label)

    def fingerprint(self) -> str:
        """Of what decides the pixels."""
        return digest_of({**self._identity, "count": len(self)})


class DrawnImages(ImageSet):
    """What a model draws: image k has noise k, whatever the batches.

    Args:
        draw: Images in [-1, 1] for a batch of conditions, the first of which has a number.
        conditions: One a sample.
        name: What to call them.
        identity: What decides their pixels, in terms of JSON.
    """

    def __init__(
        self,
        draw: Callable[[Batch, int], Float[Tensor, "b c h w"]],
        conditions: Any,
        name: str,
        identity: Mapping[str, Any],
    ) -> None:
        self._draw, self._conditions = draw, conditions
        self.name, self._identity = name, identity

    def __len__(self) -> int:
        return len(self._conditions)

    def read(self, rows: range) -> Pictures:
        """The samples with these numbers, drawn anew."""
        asked = self._conditions[rows.start : rows.stop]
        with torch.no_grad():
            return Pictures(as_pictures(self._draw(asked, rows.start), self.name), asked.label)

    def fingerprint(self) -> str:
        """Of what decides the pixels."""
        return digest_of({**self._identity, "count": len(self)})


def _classes_of(dataset: object) -> tuple[str, ...]:
    """The class names of a data set, or of the one that it was made from."""
    while dataset is not None:
        if found := getattr(dataset, "classes", ()):
            return tuple(found)
        dataset = getattr(dataset, "dataset", None)
    return ()


def digest_of(identity: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name a table of plain values."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
