"""ImageNet (ILSVRC 2012): a thousand classes, in each form in which it is handed out."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.data.imagenet_truth import validation_classes
from ldmlab.data.listing import (
    Names,
    check_split,
    existing_root,
    files_below,
    nothing_found,
    read_file,
    split_folder,
)
from ldmlab.data.sample import Sample
from ldmlab.data.tars import Archives, members

_WANTED = (
    "ImageNet: class folders n01440764, ... in train and val, ILSVRC2012_img_train.tar and "
    "ILSVRC2012_img_val.tar, or Kaggle's ILSVRC/Data/CLS-LOC"
)
_KAGGLE = "ILSVRC/Data/CLS-LOC"
_TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
_WNID = re.compile(r"n\d{8}")


class ImageNet:
    """Class folders, the original archives read in place, or Kaggle's folder.

    Classes are numbered in the order of their WordNet ids. Validation images lie in class
    folders, or in one folder or archive whose classes Kaggle's table or the devkit tells.

    Args:
        split: `train` or `validation`.
        root: The data set's folder.
        num_classes: Number of classes that must be there.

    Raises:
        UserError: The data is of none of these forms, is incomplete, or has other classes.
    """

    def __init__(
        self, split: str, root: str | os.PathLike[str] | None = None, num_classes: int = 1000
    ) -> None:
        check_split(split)
        self.root = existing_root(root, _WANTED)
        tars = [self.root / name for name in _TARS.values()]
        self._archives = Archives(tars) if any(tar.is_file() for tar in tars) else None
        places = self._listed(split)
        if not places:
            raise nothing_found(self.root, f"{split} images of {_WANTED}", "change data.root")
        names = sorted(places)
        wnids = _wnids(names)
        self.classes = tuple(sorted(set(wnids or self._train_classes())))
        wnids = wnids or validation_classes(self.root, names)
        if len(self.classes) != num_classes or not set(wnids) <= set(self.classes):
            raise UserError(
                f"data.num_classes={num_classes}, and {self.root} holds {len(self.classes)} "
                f"classes in its {split} data: complete it, or set data.num_classes"
            )
        number = {wnid: k for k, wnid in enumerate(self.classes)}
        self._names = Names(names)
        self._places = np.array([places[name] for name in names], np.int64)
        self._labels = np.array([number[wnid] for wnid in wnids], np.int64)

    def _listed(self, split: str) -> dict[str, tuple[int, int, int]]:
        if self._archives is None:
            return _in_folders(self.root, split)
        archive = list(_TARS).index(split)
        return _in_tar(self._archives.paths[archive], archive)

    def _train_classes(self) -> list[str]:
        """The classes by the folders or inner archives of the training data."""
        if self._archives is None:
            folder = _folder(self.root, "train")
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        else:
            archive = self._archives.paths[0]
            names = [outer.name for outer in members(archive)] if archive.is_file() else []
        return [name.removesuffix(".tar") for name in names if _WNID.match(name)]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The image's path, in its archive where it lies in one."""
        return str(self.root / self._names[index])

    def read(self, index: int) -> Sample:
        """Image and class.

        Raises:
            BrokenFileError: The image is missing or cannot be read.
        """
        if self._archives is None:
            image = read_file(self.root / self._names[index])
        else:
            image = self._archives.read(*self._places[index].tolist())
        return Sample(image, int(self._labels[index]))

    def caption(self, index: int) -> None:
        """None."""


def _wnids(names: list[str]) -> list[str] | None:
    """The class of each image by its folder or inner archive; None where these are no classes."""
    found = [PurePosixPath(name).parent.name.removesuffix(".tar") for name in names]
    return found if found and all(_WNID.fullmatch(wnid) for wnid in found) else None


def _folder(root: Path, split: str) -> Path:
    """Where a split's images lie, if they lie in folders."""
    base = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    return split_folder(base, split) or base / _TARS[split].removesuffix(".tar")


def _in_folders(root: Path, split: str) -> dict[str, tuple[int, int, int]]:
    """Paths of a split's images, relative to the root; a file needs no place within itself."""
    folder = _folder(root, split)
    if not folder.is_dir():
        return {}
    prefix = folder.relative_to(root).as_posix()
    found = files_below(folder, {".jpeg", ".jpg", ".png"})
    return {f"{prefix}/{name}": (0, 0, 0) for name in found}


def _in_tar(path: Path, archive: int) -> dict[str, tuple[int, int, int]]:
    """Paths of the images in an archive, or in the archives that it holds, and their places."""
    if not path.is_file():
        return {}
    found = {}
    for outer in members(path):
        inner = outer.name.endswith(".tar")
        parts = members(path, outer.offset, outer.size) if inner else (outer,)
        prefix = f"{path.name}/{outer.name}/" if inner else f"{path.name}/"
        for member in parts:
            found[prefix + PurePosixPath(member.name).name] = archive, member.offset, member.size
    return found
