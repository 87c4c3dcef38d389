"""A folder of anyone's images."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from pathlib import Path

import torch

from ldmlab.core.errors import UserError
from ldmlab.core.terminal import console
from ldmlab.data.images.decode import BrokenFileError, decode_image
from ldmlab.data.sources.listing import files_below, natural_order, shown
from ldmlab.evaluation.images.image_set import ImageSet, Pictures

_GRIDS = ("grid.png",)  # what `ldmlab sample` writes beside its images


class FolderImages(ImageSet):
    """The images at any depth below a folder, in natural order; class folders name classes.

    Args:
        path: The folder.
        key: Under which the user named it, for messages.

    Raises:
        UserError: It holds no image.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.root, self.name = path, f"{key}={shown(path)}"
        left_out: Counter[str] = Counter()
        found = files_below(path, left_out=left_out)
        grids = [name for name in found if name in _GRIDS]
        left_out.update(grids)
        self.files = natural_order(set(found) - set(grids))
        if not self.files:
            raise UserError(f"{self.name} holds no images")
        if left_out:
            kinds = ", ".join(f"{count} x {kind}" for kind, count in left_out.most_common())
            console.print(f"[yellow]warning:[/] {self.name}: left out: {kinds}")
        folders = [name.rpartition("/")[0] for name in self.files]
        if all(folders):
            self.classes = tuple(natural_order(set(folders)))
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._labels = [numbers[folder] for folder in folders] if self.classes else None

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: range) -> Pictures:
        """The decoded files at these positions.

        Raises:
            UserError: A file is broken.
        """
        images = []
        for row in rows:
            try:
                images.append(decode_image((self.root / self.files[row]).read_bytes()))
            except (BrokenFileError, OSError) as error:
                raise UserError(
                    f"{self.name}: {shown(self.files[row])} {error}: repair it, or take it away"
                ) from error
        labels = None if self._labels is None else torch.tensor([self._labels[r] for r in rows])
        return Pictures(images, labels)

    @functools.cache  # noqa: B019 (sets live as long as the process)
    def fingerprint(self) -> str:
        """Of the files' names and bytes."""
        digest = hashlib.sha256()
        for name in self.files:
            digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
            with (self.root / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]
