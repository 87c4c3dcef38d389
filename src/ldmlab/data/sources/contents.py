"""What a folder of images holds, as far as it can be told without its owner."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.pixel_values import Bits
from ldmlab.core.records import UNLABELLED
from ldmlab.data.images.decode import BrokenFileError, LabelMap, image_size, is_picture
from ldmlab.data.images.medical import is_volume, read_slice
from ldmlab.data.images.values import read_values
from ldmlab.data.sources.captions import FolderCaptions
from ldmlab.data.sources.image_folder import ImageFolder
from ldmlab.data.sources.listing import existing_root, files_below, named_folder, nothing_found

# Files that are looked into, evenly spread over all.
_PROBED = 256
_MOST_CLASSES = 1000
_LEAST_OF_A_CLASS = 4
# Part of the images that must have a caption or a mask for the folder to be one with such.
_MOST_OF_THEM = 0.5
_IMAGE_FOLDERS = ("images", "image", "img", "photos")
_MASK_FOLDERS = (
    "masks", "mask", "labels", "annotations", "annotation", "segmentation", "segmentations", "seg",
)  # fmt: skip
_TABLES = (".csv", ".jsonl")


@dataclass(frozen=True)
class Contents:
    """What was found in a folder.

    Attributes:
        root: The folder.
        count: Images.
        images: The subfolder that holds them; None where it is the folder itself.
        side: Shorter side of the images in pixels, their median.
        channels: Of the images, as `data.channels`; 3 where they are 8 bits of grey or colours.
        bits: Of their values, as `data.bits`.
        captions: `txt` or the name of a table, as `data.captions` takes them; None without any.
        classes: Names of the folders in which the images lie, where they are classes.
        masks: Subfolder of the label maps; None without any.
        num_mask_labels: How many labels the maps have, by those looked into; None without any.
    """

    root: Path
    count: int
    images: str | None
    side: int
    channels: int
    bits: Bits
    captions: str | None
    classes: tuple[str, ...]
    masks: str | None
    num_mask_labels: int | None


def look_into(root: str | Path | None) -> Contents:
    """Find images, and their captions, classes and masks, in a folder.

    Captions are text files beside most images, or a table that names them; classes are at least two
    folders with four images each on the average, every image in one; masks are PNG files at the
    paths of most images, in a folder that is called so.

    Args:
        root: The folder.

    Raises:
        UserError: It is no folder, or holds no image that can be read; or images of several kinds,
            of which a model can see one.
    """
    folder = existing_root(root, "the images")
    images = next((name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), None)
    # Where every image lies beside that folder too, it is a class like the others.
    if images is not None and any(True for _ in _outside(folder, images)):
        images = None
    start = folder if images is None else folder / images
    masks = next((name for name in _MASK_FOLDERS if (folder / name).is_dir()), None)
    names = [n for n in files_below(start) if masks is None or not n.startswith(f"{masks}/")]
    if not names:
        raise nothing_found(start, "images", "change data.root")
    probed = names[:: -(-len(names) // _PROBED)]
    count = None if masks is None else _mask_labels(folder / masks, probed)
    if masks is not None and count is None:
        masks, names = None, files_below(start)
    return Contents(
        folder,
        len(names),
        images,
        *_kind(start, probed),
        _captions(folder, start, probed),
        _classes(folder, images, len(names)),
        masks,
        count,
    )


def _outside(folder: Path, images: str) -> Iterator[str]:
    """Images of a folder that lie in none that is called after images or masks."""
    beside = tuple(f"{name}/" for name in (images, *_MASK_FOLDERS))
    return (name for name in files_below(folder) if not name.startswith(beside))


def _kind(start: Path, names: Sequence[str]) -> tuple[int, int, Bits]:
    """Shorter side, channels and bits of the images looked into."""
    sides: list[int] = []
    kinds: Counter[tuple[int, Bits]] = Counter()
    for name in names:
        try:
            side, kind = _looked_at(_first_slice(start / name))
        except (BrokenFileError, OSError):  # training counts and names it
            continue
        sides.append(side)
        kinds[kind] += 1
    if not sides:
        raise UserError(f"none of the images in {start} can be read, such as {names[0]}")
    if len(kinds) > 1:
        told = ", ".join(f"{n} of {c} channels, {bits} bits" for (c, bits), n in kinds.items())
        raise UserError(
            f"{start} holds images of several kinds ({told}; {len(sides)} looked into): keep one "
            "kind, or say data.channels and data.bits with data=image_folder"
        )
    return statistics.median_low(sides), *next(iter(kinds))


def _first_slice(path: Path) -> bytes:
    return read_slice(path, 0) if is_volume(path.name) else path.read_bytes()


def _looked_at(data: bytes) -> tuple[int, tuple[int, Bits]]:
    """Shorter side, and channels and bits: 3 and 8 of all pictures that become such."""
    with suppress(BrokenFileError):
        if is_picture(data):
            return min(image_size(data)), (3, 8)
    found = read_values(data, channels=3)
    side = min(found.array.shape[1:])
    count, alpha = len(found.array), found.alpha
    if found.full == 255 and (count in (1, 3) or alpha):
        return side, (3, 8)
    whole: Bits = 16 if found.full == 65535 else "float"
    return side, (count - alpha, 8 if found.full in (1, 255) else whole)


def _captions(root: Path, start: Path, names: Sequence[str]) -> str | None:
    beside = sum((start / name).with_suffix(".txt").is_file() for name in names)
    if beside >= _MOST_OF_THEM * len(names):
        return "txt"
    folders = dict.fromkeys((root, named_folder(start, "train") or start))
    tables = [path for f in folders for path in sorted(f.iterdir()) if path.suffix in _TABLES]
    for table in tables:
        try:
            texts = FolderCaptions(root, start, table.parent, table.name, names)
        except UserError:  # a table of something else
            continue
        if sum(any(texts(name)) for name in names) >= _MOST_OF_THEM * len(names):
            return table.name
    return None


def _classes(root: Path, images: str | None, count: int) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files left out: training tells of them
        try:
            found = ImageFolder("train", root, images, class_folders=True).classes
        except UserError:
            return ()
    most = min(_MOST_CLASSES, count // _LEAST_OF_A_CLASS)
    return found if len(found) <= most else ()


def _mask_labels(folder: Path, names: Sequence[str]) -> int | None:
    found = [path for name in names if (path := (folder / name).with_suffix(".png")).is_file()]
    if len(found) < _MOST_OF_THEM * len(names):
        return None
    labels = {0}
    for path in found:
        try:
            labels |= set(LabelMap(path.read_bytes(), 256, 0, 256).decode().unique().tolist())
        except BrokenFileError:
            continue
    return max(labels - {UNLABELLED}) + 1
