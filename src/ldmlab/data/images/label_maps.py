"""Label maps that a user names, as conditions in a model's frame."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.images.decode import BrokenFileError, LabelMap
from ldmlab.data.images.frame import Frame
from ldmlab.data.images.transform import framed_labels
from ldmlab.data.sources.listing import files_below, natural_order, shown


class LabelMapFiles:
    """The label map of a file, over and over, or those of a folder, one each in natural order.

    All are looked through when it is made; their pixels are read when a part of them is taken.

    Args:
        path: The file, or the folder of grey or palette images, at any depth.
        key: What the user calls it.
        count: Times that a single file's is given.
        num_labels: Number of the model's labels.
        frame: The model's, with the way into it.
        first: Value of label 0 in the files.
        unlabelled: Value of pixels without a label.

    Attributes:
        names: Name of each condition's file, relative to a folder.
        digests: Of each condition's file, the beginning of its SHA-256 in hexadecimals.
        notes: What is done to files of another shape or size than the frame's, with their number.

    Raises:
        UserError: There is no label map, or one is broken or has a label that the model has not.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        count: int,
        num_labels: int,
        frame: Frame,
        first: int,
        unlabelled: int,
    ) -> None:
        self._key, self._frame = key, frame
        self._labels = (num_labels, first, unlabelled)
        self._root = path if path.is_dir() else path.parent
        found, left_out = [path.name], Counter[str]()
        if path.is_dir():
            found = natural_order(files_below(path, left_out=left_out))
            if not found:
                raise UserError(f"{key}={shown(path)} holds no images")
        changes: Counter[str] = Counter()
        digests = []
        for name in found:
            label_map = self._read(name)
            digests.append(hashlib.sha256(label_map.data).hexdigest()[:16])
            changes.update(frame.changes(*self._decoded(name, label_map).shape))
        self.notes = [f"{number} of {len(found)} {change}" for change, number in changes.items()]
        self.notes += [f"left out, being no image: {n} x {kind}" for kind, n in left_out.items()]
        times = count if len(found) == 1 else 1
        self.names, self.digests = found * times, digests * times

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        """The label maps at some places, in the frame."""
        masks = []
        for index in indices:
            mask = self._decoded(self.names[index], self._read(self.names[index]))
            masks.append(framed_labels(mask, self._frame, self._frame.seen(*mask.shape)))
        return Batch(index=torch.tensor(list(indices)), mask=torch.stack(masks))

    def _read(self, name: str) -> LabelMap:
        try:
            return LabelMap((self._root / name).read_bytes(), *self._labels)
        except OSError as error:
            path = shown(self._root / name)
            raise UserError(f"{self._key}={path} cannot be read ({error.strerror})") from error

    def _decoded(self, name: str, label_map: LabelMap) -> torch.Tensor:
        try:
            return label_map.decode()
        except BrokenFileError as error:
            raise UserError(f"{self._key}={shown(self._root / name)} {error}") from error
