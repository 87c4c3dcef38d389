"""Images in one npz file, as ADM's samples and reference batches are."""

from __future__ import annotations

import functools
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.evaluation.images.image_set import ImageSet, Pictures

_IMAGES, _LABELS = "arr_0", "arr_1"


class NpzImages(ImageSet):
    """The array `arr_0` of a file, bytes [n, h, w, 3] or grey [n, h, w, 1], read as it is needed.

    Args:
        path: The file; `arr_1`, where it is there, holds a class number an image.
        key: Under which the user named it, for messages.

    Raises:
        UserError: It is no such file.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.name = path, f"{key}={path}"
        try:
            self._archive = zipfile.ZipFile(path)
            self._file = self._archive.open(f"{_IMAGES}.npy")
            version = npy.read_magic(self._file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            self.shape, fortran, kind = read(self._file)
        except KeyError as error:
            held = ", ".join(n.removesuffix(".npy") for n in self._archive.namelist())
            raise UserError(
                f"{self.name} holds no images (arr_0), only {held}: moments alone give a Fréchet "
                "distance of the network that they were made with and nothing else; name images"
            ) from error
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.name} is no npz file that can be read ({error})") from error
        if kind != np.uint8 or len(self.shape) != 4 or self.shape[3] not in (1, 3) or fortran:
            raise UserError(
                f"{self.name}: arr_0 is {kind} of shape {self.shape}; images are uint8 of "
                "[number, height, width, 3]"
            )
        self._start = self._file.tell()
        self._labels = self._read_labels()

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, rows: range) -> Pictures:
        """The images at these positions, which lie together in the file."""
        size = int(np.prod(self.shape[1:]))
        self._file.seek(self._start + rows.start * size)
        data = self._file.read(len(rows) * size)
        if len(data) < len(rows) * size:
            raise UserError(f"{self.name} is cut short at image {rows.start + len(data) // size}")
        array = np.frombuffer(data, np.uint8).reshape(-1, *self.shape[1:])
        images = torch.from_numpy(array.copy()).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        labels = None if self._labels is None else self._labels[rows.start : rows.stop]
        return Pictures(list(images), labels)

    @functools.cache  # noqa: B019 (sets live as long as the process)
    def fingerprint(self) -> str:
        """Of the file's bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def _read_labels(self) -> Tensor | None:
        if f"{_LABELS}.npy" not in self._archive.namelist():
            return None
        with np.load(self.path, allow_pickle=False) as arrays:
            labels = arrays[_LABELS]
        if labels.shape != self.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"{self.name}: arr_1 holds no class number for each image")
        return torch.from_numpy(labels.astype(np.int64))
