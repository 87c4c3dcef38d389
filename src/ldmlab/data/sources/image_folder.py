"""A folder of images, with class folders, captions and label maps where there are any."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.ranges import between, natural, one_of, positive_int, whole_in
from ldmlab.core.records import UNLABELLED
from ldmlab.data.images.decode import BrokenFileError, LabelMap
from ldmlab.data.images.medical import count_slices, is_volume, read_slice
from ldmlab.data.images.source import Sample
from ldmlab.data.sources.captions import FolderCaptions
from ldmlab.data.sources.listing import (
    Names,
    Split,
    existing_root,
    files_below,
    held_out,
    named_folder,
    natural_order,
    nothing_found,
    read_file,
    read_list,
    shown,
    split_folder,
)

_SLICE = "#"  # between a volume's name and the number of a slice
_PROBED = 32  # masks, to see whether they are painted in black and white


class ImageFolder:
    """Images at any depth below a folder; of a volume (NIfTI) each slice is one.

    A data set that keeps its splits in folders (train or training beside val, valid or
    validation) is taken as it is; else a list or a seeded share of the images is held out, those of
    the folder of training data where there is one.

    Args:
        split: `train` or `validation`.
        root: The data set's folder.
        images: Subfolder of the images; the root itself by default.
        masks: Subfolder of label-map pngs, at the images' relative paths; None for no masks.
        class_folders: Whether each folder beside the images' split is a class.
        captions: `txt` for a text file beside each image, or the name of a csv or jsonl file in
            the root or in the split's folder; None for no captions. Of several captions of one
            image each visit sees one.
        num_classes: Number of classes that must be there; any by default.
        num_mask_labels: Number of labels of the masks.
        first_label: Value of label 0 in the masks.
        unlabelled: Value of pixels without a label.
        validation_list: File of the relative paths of the validation images.
        validation_share: Part of the images to hold out without such a list.

    Raises:
        UserError: There is nothing of what the arguments ask for.
    """

    def __init__(
        self,
        split: Split,
        root: str | os.PathLike[str] | None = None,
        images: str | None = None,
        masks: str | None = None,
        class_folders: bool = False,
        captions: str | None = None,
        num_classes: int | None = None,
        num_mask_labels: int | None = None,
        first_label: int = 0,
        unlabelled: int = UNLABELLED,
        validation_list: str | None = None,
        validation_share: float = 0.1,
    ) -> None:
        one_of(Split)(split=split)
        positive_int.or_none(num_classes=num_classes)
        whole_in(1, UNLABELLED).or_none(num_mask_labels=num_mask_labels)
        natural(first_label=first_label, unlabelled=unlabelled)
        between(0, 1)(validation_share=validation_share)
        self.root = existing_root(root, "the images")
        self.folder = _subfolder(self.root, images, "data.images")
        own = split_folder(self.folder, split)
        train = named_folder(self.folder, "train") or self.folder
        start = own or train
        self._masks = None if masks is None else _subfolder(self.root, masks, "data.masks")
        if self._masks is not None and num_mask_labels is None:
            raise UserError("data.num_mask_labels is not set: say how many labels data.masks has")
        self.left_out: Counter[str] = Counter()
        names = self._images(start, self.left_out)
        if split == "train" and self.left_out:
            kinds = ", ".join(f"{count} x {kind}" for kind, count in self.left_out.most_common())
            warnings.warn(f"{start}: left out, being no images here: {kinds}", stacklevel=2)
        if not names:
            mend = "change data.root" if images is None else "change data.root or data.images"
            raise nothing_found(start, "images", mend)
        self._labels = (num_mask_labels or 0, first_label, unlabelled)
        self._depth = int(start != self.folder)
        self.classes: tuple[str, ...] = ()
        if class_folders:
            # Those of the training data in either split: a number means one class.
            training = names if start == train else self._images(train)
            self.classes = _classes(training, self._depth)
            _check_classes(names, self._depth, self.classes, num_classes, start)
        self._captions = (
            None
            if captions is None
            else FolderCaptions(self.root, self.folder, start, captions, names)
        )
        if self._masks is not None:
            self._refuse_black_and_white(names)
        if own is None:
            names = _chosen(self.folder, names, split, validation_list, validation_share)
        elif validation_list is not None:
            raise UserError(
                f"data.validation_list={validation_list} is of no use, as {self.folder} keeps its "
                "splits in folders: leave it out"
            )
        self._numbers = {name: number for number, name in enumerate(self.classes)}
        self._names = Names(self._with_slices(names))

    @property
    def several_texts(self) -> bool:
        """Whether some images have several captions."""
        return self._captions is not None and self._captions.several

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The image's path."""
        return shown(self.folder / self._names[index])

    def read(self, index: int) -> Sample:
        """Image, class, mask and caption, as far as the data has them.

        Raises:
            BrokenFileError: The image or its mask is missing or cannot be read.
        """
        name = self._names[index]
        label = self._numbers[name.split("/")[self._depth]] if self.classes else None
        image = self._image(name)
        texts = self._texts(index)
        return Sample(image, label, self._mask(name), *(texts and (texts[0], texts[1:])))

    def caption(self, index: int) -> str | None:
        """All the image's texts in one; empty where it has none, None without captions."""
        return None if self._captions is None else " ".join(self._texts(index))

    def _texts(self, index: int) -> tuple[str, ...]:
        return () if self._captions is None else self._captions(_file_of(self._names[index]))

    def _with_slices(self, names: list[str]) -> list[str]:
        """The images with the slices of volumes, which are in one split all.

        Raises:
            UserError: Volumes have masks, or are not to be read on this machine.
        """
        if self._masks is not None and any(map(is_volume, names)):
            raise UserError(
                f"data.masks={self._masks.name} are masks of pictures, and {self.folder} holds "
                "volumes: save their slices and masks as npy and png"
            )
        found: list[str] = []
        for name in names:
            if not is_volume(name):
                found.append(name)
                continue
            try:
                count = count_slices(self.folder / name)
            except BrokenFileError:  # it is counted where it is read
                count = 1
            found += (f"{name}{_SLICE}{number:04d}" for number in range(count))
        return found

    def _image(self, name: str) -> bytes:
        """The bytes of an image, or of a slice as npy.

        Raises:
            BrokenFileError: It is missing or cannot be read.
        """
        file = _file_of(name)
        if file == name:
            return read_file(self.folder / name)
        return read_slice(self.folder / file, int(name.rpartition(_SLICE)[2]))

    def _images(self, start: Path, left_out: Counter[str] | None = None) -> list[str]:
        """Paths of the images below a folder, without the masks that may lie there too."""
        prefix = "" if start == self.folder else f"{start.name}/"
        names = [prefix + name for name in files_below(start, left_out=left_out)]
        if self._masks is None or self.folder not in self._masks.parents:
            return names
        masks = f"{self._masks.relative_to(self.folder).as_posix()}/"
        return [name for name in names if not name.startswith(masks)]

    def _refuse_black_and_white(self, names: list[str]) -> None:
        """Masks painted in black and white mean two labels, and 255 is no label here.

        Raises:
            UserError: The first masks hold 0 and 255 and nothing else, and there are two labels.
        """
        count, first, unlabelled = self._labels
        if (count, first, unlabelled) != (2, 0, UNLABELLED):
            return
        seen: set[int] = set()
        for name in names[:_PROBED]:
            mask = None if self._masks is None else (self._masks / name).with_suffix(".png")
            if mask is not None and mask.is_file():
                with contextlib.suppress(BrokenFileError):  # it is counted where it is read
                    seen |= set(LabelMap(mask.read_bytes(), 256, 0, 256).decode().unique().tolist())
        if seen == {0, UNLABELLED}:
            raise UserError(
                f"{self._masks} holds masks of 0 and 255, and 255 is a pixel without a label: "
                "write label 1 as 1 (in numpy: mask // 255), or name another data.unlabelled"
            )

    def _mask(self, name: str) -> LabelMap | None:
        if self._masks is None:
            return None
        path = (self._masks / name).with_suffix(".png")
        try:
            return LabelMap(path.read_bytes(), *self._labels)
        except OSError as error:
            raise BrokenFileError(f"has no mask: {shown(path)} ({error.strerror})") from error


def _file_of(name: str) -> str:
    """The file that an image, or a slice of it, lies in."""
    file = name.rpartition(_SLICE)[0]
    return file if is_volume(file) else name


def _subfolder(root: Path, name: str | None, key: str) -> Path:
    if name is None:
        return root
    folder = root / name
    if not folder.is_dir():
        raise nothing_found(root, f"folder {name}", f"change data.root or {key}")
    return folder


def _classes(names: list[str], depth: int) -> tuple[str, ...]:
    """The folders in which the images lie, in their natural order."""
    loose = next((name for name in names if name.count("/") < depth + 1), None)
    if loose is not None:
        raise UserError(
            f"{shown(loose)} lies in no class folder: move it into one, or set "
            "data.class_folders=false"
        )
    return tuple(natural_order({name.split("/")[depth] for name in names}))


def _check_classes(
    names: list[str], depth: int, classes: tuple[str, ...], count: int | None, folder: Path
) -> None:
    """Refuse other classes than those of the training data, and another number than asked for."""
    strange = sorted(set(_classes(names, depth)).difference(classes))
    if strange:
        raise UserError(
            f"{folder} has the class folder {shown(strange[0])}, which the training data lacks: "
            "remove it, or add training images"
        )
    if len(classes) == 1:
        raise UserError(
            f"{folder} holds one class folder, {shown(classes[0])}: let data.root be the folder in "
            "which the class folders lie, or set data.class_folders=false"
        )
    if count not in (None, len(classes)):
        raise UserError(
            f"data.num_classes={count}, and {folder} holds {len(classes)} class folders: set "
            f"data.num_classes={len(classes)}"
        )


def _chosen(
    folder: Path, names: list[str], split: str, listed: str | None, share: float
) -> list[str]:
    """The images of a split by a list or a seeded share."""
    if listed is None:
        return [names[i] for i in held_out(folder, names, split, share)]
    wanted = set(read_list(listed, "data.validation_list"))
    missing = sorted(wanted.difference(names))
    if missing:
        raise UserError(
            f"data.validation_list={listed} names {len(missing)} images that are not there, such "
            f"as {missing[0]}: write paths relative to the images' folder"
        )
    if len(wanted) == len(names):
        raise UserError(
            f"data.validation_list={listed} names every image, and leaves none to train on: "
            "shorten it"
        )
    return [name for name in names if (name in wanted) == (split == "validation")]
