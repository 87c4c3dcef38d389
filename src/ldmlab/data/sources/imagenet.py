"""ImageNet (ILSVRC 2012): a thousand classes, in each form in which it is handed out."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.core.ranges import one_of, positive_int
from ldmlab.data.images.source import Sample
from ldmlab.data.shards.tar import Archives, members
from ldmlab.data.sources.imagenet_labels import validation_classes
from ldmlab.data.sources.listing import (
    Names,
    Split,
    existing_root,
    files_below,
    named_folder,
    nothing_found,
    read_file,
    shown,
)

_WANTED = (
    "ImageNet: class folders n01440764, ... in train and val, ILSVRC2012_img_train.tar and "
    "ILSVRC2012_img_val.tar, or Kaggle's ILSVRC/Data/CLS-LOC"
)
_KAGGLE = "ILSVRC/Data/CLS-LOC"
_TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
_NO_ARCHIVE = -1
_WNID = re.compile(r"n\d{8}")


class ImageNet:
    """Class folders, the original archives read in place, or Kaggle's folder.

    Each split may have a form of its own. Classes are numbered in the order of their WordNet ids.
    Validation images lie in class folders, or in one folder or archive whose classes Kaggle's
    table or the devkit tells.

    Args:
        split: `train` or `validation`.
        root: The data set's folder.
        num_classes: Number of classes that must be there.

    Raises:
        UserError: The data is of none of these forms, is incomplete, or has other classes.
    """

    def __init__(
        self, split: Split, root: str | os.PathLike[str] | None = None, num_classes: int = 1000
    ) -> None:
        one_of(Split)(split=split)
        positive_int(num_classes=num_classes)
        self.root = existing_root(root, _WANTED)
        self._archives = Archives([self.root / name for name in _TARS.values()])
        places = self._listed(split)
        if not places:
            raise nothing_found(
                _folder(self.root, split) or self.root,
                f"{split} images of {_WANTED}",
                "change data.root",
            )
        names = sorted(places)
        wnids = _wnids(self.root, names)
        if wnids is None and split == "validation":
            wnids = validation_classes(self.root, names)
        # Those of the training data in either split: a number means one class.
        self.classes = tuple(sorted(self._train_classes()))
        if wnids is None or not self.classes:
            raise UserError(
                f"{shown(self.root / names[0])} lies in no class folder such as n01440764: change "
                "data.root, or take data=image_folder data.class_folders=true"
            )
        if len(self.classes) != num_classes:
            raise UserError(
                f"data.num_classes={num_classes}, and {self.root} holds {len(self.classes)} "
                "classes in its train data: complete it, or set data.num_classes"
            )
        if strange := sorted(set(wnids).difference(self.classes)):
            raise UserError(
                f"{self.root} has {split} images of {strange[0]}, which is none of the "
                f"{num_classes} classes of its train data: remove them, or complete that"
            )
        number = {wnid: k for k, wnid in enumerate(self.classes)}
        self._names = Names(names)
        self._places = np.array([places[name] for name in names], np.int64)
        self._labels = np.array([number[wnid] for wnid in wnids], np.int64)

    def _listed(self, split: str) -> dict[str, tuple[int, int, int]]:
        """The images of a split, and archive, first byte and size of each."""
        archive = list(_TARS).index(split)
        path = self._archives.paths[archive]
        return _in_tar(path, archive) if path.is_file() else _in_folder(self.root, split)

    def _train_classes(self) -> list[str]:
        """The classes by the folders or inner archives of the training data."""
        archive, folder = self._archives.paths[0], _folder(self.root, "train")
        if archive.is_file():
            names = [outer.name for outer in members(archive)]
        else:
            names = [] if folder is None else [path.name for path in folder.iterdir()]
        classes = [name.removesuffix(".tar") for name in names]
        return [name for name in classes if _WNID.fullmatch(name)]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The image's path, in its archive where it lies in one."""
        return shown(self.root / self._names[index])

    def read(self, index: int) -> Sample:
        """Image and class.

        Raises:
            BrokenFileError: The image is missing or cannot be read.
        """
        archive, start, size = self._places[index].tolist()
        if archive == _NO_ARCHIVE:
            image = read_file(self.root / self._names[index])
        else:
            image = self._archives.read(archive, start, size)
        return Sample(image, int(self._labels[index]))

    def caption(self, index: int) -> None:
        """None."""


def _wnids(root: Path, names: list[str]) -> list[str] | None:
    """The class of each image by its folder or inner archive; None where these are no classes."""
    found = [PurePosixPath(name).parent.name.removesuffix(".tar") for name in names]
    strays = [k for k, wnid in enumerate(found) if not _WNID.fullmatch(wnid)]
    if 0 < len(strays) < len(names):
        raise UserError(
            f"{shown(root / names[strays[0]])} lies in no class folder such as n01440764, unlike "
            "others: move it into one, or away"
        )
    return None if strays else found


def _folder(root: Path, split: str) -> Path | None:
    """Where a split's images lie, if they lie in a folder."""
    base = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    original = base / _TARS[split].removesuffix(".tar")
    return named_folder(base, split) or (original if original.is_dir() else None)


def _in_folder(root: Path, split: str) -> dict[str, tuple[int, int, int]]:
    """Paths of a split's images, relative to the root; a file needs no place within itself."""
    folder = _folder(root, split)
    if folder is None:
        return {}
    prefix = folder.relative_to(root).as_posix()
    found = files_below(folder, {".jpeg", ".jpg", ".png"})
    return {f"{prefix}/{name}": (_NO_ARCHIVE, 0, 0) for name in found}


def _in_tar(path: Path, archive: int) -> dict[str, tuple[int, int, int]]:
    """Paths of the images in an archive, or in the archives that it holds, and their places."""
    found = {}
    for outer in members(path):
        inner = outer.name.endswith(".tar")
        parts = members(path, outer.offset, outer.size) if inner else (outer,)
        prefix = f"{path.name}/{outer.name}/" if inner else f"{path.name}/"
        for member in parts:
            found[prefix + PurePosixPath(member.name).name] = archive, member.offset, member.size
    return found
