"""CelebA-HQ (Karras et al. 2018): 30,000 faces, in the forms in which they are passed on."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.ranges import one_of
from ldmlab.data.images.source import Sample
from ldmlab.data.sources.listing import (
    Names,
    Split,
    existing_root,
    files_below,
    held_out,
    nothing_found,
    read_file,
    read_list,
    shown,
    split_folder,
)

_WANTED = "CelebA-HQ (imgHQ00000.npy, ... or jpg, png images)"
_MASK_HQ = "CelebA-HQ-img"
_LISTS = {"train": "celebahqtrain.txt", "validation": "celebahqvalidation.txt"}
_SHARE = 5000 / 30000


class CelebAHQ:
    """1024² npy arrays, images of any size, or the folder of CelebAMask-HQ.

    A list names images by their number: `imgHQ20126.npy` and `20126.jpg` are the same face.

    Args:
        split: `train` or `validation`.
        root: Folder of the images, at any depth.
        train_list: List of the training images; `celebahqtrain.txt` in the root by default.
        validation_list: List of the others; `celebahqvalidation.txt` in the root by default.
            Without lists and folders of their own, a seeded sixth is held out, 5,000 of 30,000.

    Raises:
        UserError: There are no images, a list names one that is not there, or the lists share one
            or leave none.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        split: Split,
        root: str | os.PathLike[str] | None = None,
        train_list: str | None = None,
        validation_list: str | None = None,
    ) -> None:
        one_of(Split)(split=split)
        self.root = existing_root(root, _WANTED)
        # CelebAMask-HQ keeps its masks, which are images too, beside this folder.
        beside = (self.root / _MASK_HQ, *sorted(self.root.glob(f"*/{_MASK_HQ}")))
        folder = next(filter(Path.is_dir, beside), self.root)
        lists = {"train": train_list, "validation": validation_list}
        for name, file in _LISTS.items():
            if lists[name] is None and (self.root / file).is_file():
                lists[name] = str(self.root / file)
        own = split_folder(folder, split)
        self.folder = own or folder
        names = files_below(self.folder)
        if not names:
            raise nothing_found(self.folder, _WANTED, "change data.root")
        if any(lists.values()):
            names = _listed(names, lists, split)
        elif own is None:
            names = [names[i] for i in held_out(self.folder, names, split, _SHARE)]
        self._names = Names(names)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The image's path."""
        return shown(self.folder / self._names[index])

    def read(self, index: int) -> Sample:
        """The image alone: the data has neither classes nor captions.

        Raises:
            BrokenFileError: It is missing or cannot be read.
        """
        return Sample(read_file(self.folder / self._names[index]))

    def caption(self, index: int) -> None:
        """None."""


def _listed(names: list[str], lists: dict[str, str | None], split: str) -> list[str]:
    """The images of a split's list, or those that the other split's list leaves."""
    by_number = {_number(name): name for name in names}
    if len(by_number) < len(names):
        raise UserError(
            "data.root holds several images with one number, and the lists go by numbers: name "
            "the folder of one resolution"
        )
    read = {name: _numbers(file, name, by_number) for name, file in lists.items() if file}
    other = read.get("validation" if split == "train" else "train", [])
    if split not in read:
        left = sorted(set(by_number) - set(other))
        if not left:
            raise UserError(
                f"the list of the other split names every image in data.root, and leaves none to "
                f"{split}: shorten it"
            )
        return [by_number[number] for number in left]
    if shared := set(read[split]) & set(other):
        raise UserError(
            f"data.train_list and data.validation_list share {len(shared)} images, such as "
            f"{by_number[min(shared)]}: leave each in one of them"
        )
    return [by_number[number] for number in read[split]]


def _numbers(file: str, split: str, known: Collection[int]) -> list[int]:
    """The numbers of a list's images, all of them there."""
    wanted = read_list(file, f"data.{split}_list")
    numbers = [_number(line) for line in wanted]
    missing = [line for line, number in zip(wanted, numbers, strict=True) if number not in known]
    if missing:
        raise UserError(
            f"data.{split}_list={file} names {len(missing)} images that data.root lacks, such as "
            f"{missing[0]}: complete the images or shorten the list"
        )
    return numbers


def _number(name: str) -> int:
    digits = re.findall(r"\d+", Path(name).stem)
    if not digits:
        raise UserError(f"{name} has no number in its name, by which CelebA-HQ's lists go")
    return int(digits[-1])
