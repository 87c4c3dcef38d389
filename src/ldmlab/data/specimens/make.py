"""Small valid data sets in the formats of the real ones, to try a configuration or a test on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.files import new_folder
from ldmlab.data.specimens import celebahq, folders, imagenet

Maker = Callable[[Path, int, int, int], None]

FORMS: dict[str, dict[str, Maker]] = {
    "celebahq": {"npy": celebahq.npy, "jpg": celebahq.jpg, "mask_hq": celebahq.mask_hq},
    "imagenet": {
        "folders": imagenet.folders,
        "tars": imagenet.tars,
        "kaggle": imagenet.kaggle,
        "flat": imagenet.flat,
    },
    "landscapes": {
        "grey": folders.grey_masks,
        "palette": folders.palette_masks,
        "ade20k": folders.ade20k,
    },
    "image_folder": {
        "plain": folders.plain,
        "classes": folders.classes,
        "txt": folders.text_files,
        "csv": folders.csv_table,
        "jsonl": folders.jsonl_table,
        "masks": folders.grey_masks,
    },
    "laion": {"shards": folders.shards},
}
"""The forms of each data set, the first being the usual one."""

OVERRIDES: dict[tuple[str, str], str] = {
    **{("imagenet", form): f"data.num_classes={len(imagenet.WNIDS)}" for form in FORMS["imagenet"]},
    ("landscapes", "ade20k"): (
        "data.masks=annotations data.num_mask_labels=150 data.first_label=1 data.unlabelled=0"
    ),
    ("image_folder", "classes"): "data.class_folders=true",
    ("image_folder", "txt"): "data.captions=txt",
    ("image_folder", "csv"): "data.captions=captions.csv",
    ("image_folder", "jsonl"): "data.captions=metadata.jsonl",
    ("image_folder", "masks"): "data.images=images data.masks=masks data.num_mask_labels=12",
}
"""What a form needs on the command line besides `data.root`."""


def make(
    name: str,
    out: str | os.PathLike[str],
    form: str | None = None,
    count: int = 12,
    size: int = 64,
    seed: int = 0,
) -> str:
    """Write a specimen of a data set.

    Args:
        name: A key of `FORMS`.
        out: The folder to write; it must not exist, or be empty.
        form: One of the data set's forms; the first by default.
        count: Number of training images, about.
        size: Width of the images in pixels, a multiple of 8.
        seed: Seed of the pictures.

    Returns:
        The form.

    Raises:
        UserError: The data set or form is unknown, the folder exists or cannot be written.
    """
    if name not in FORMS:
        raise UserError(f"data={name} is made, not downloaded; choose data={'|'.join(FORMS)}")
    form = form or next(iter(FORMS[name]))
    if form not in FORMS[name]:
        raise UserError(f"form={form} is no form of {name}; choose {', '.join(FORMS[name])}")
    with new_folder(out) as folder:
        FORMS[name][form](folder, count, size, seed)
    return form
