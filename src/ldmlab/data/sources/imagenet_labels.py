"""Class labels of ImageNet's validation images, from the devkit or Kaggle's table."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldmlab.core.errors import UserError

KAGGLE = "LOC_val_solution.csv"
_DEVKIT = "ILSVRC2012_devkit_t12"
_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_META = "data/meta.mat"


def validation_classes(root: Path, names: list[str]) -> list[str]:
    """The WordNet id of each validation image, from Kaggle's table or from the devkit.

    Args:
        root: Folder of the data set; either lies in it.
        names: The images' paths, `ILSVRC2012_val_00000001.JPEG` and so on.

    Raises:
        UserError: Neither is there, or it does not know an image.
    """
    table = _find(root, KAGGLE)
    known = _from_kaggle(table) if table is not None else _from_devkit(root)
    missing = [name for name in names if Path(name).stem not in known]
    if missing:
        raise UserError(
            f"the class of {len(missing)} validation images in {root} is unknown, such as "
            f"{missing[0]}: complete {table or _DEVKIT}"
        )
    return [known[Path(name).stem] for name in names]


def _find(root: Path, name: str) -> Path | None:
    """A file or folder of this name in the root or one level below."""
    return next((p for p in (root / name, *sorted(root.glob(f"*/{name}"))) if p.exists()), None)


def _from_kaggle(table: Path) -> Mapping[str, str]:
    """Rows like `ILSVRC2012_val_00048981,n03995372 85 1 499 272`: a class and its boxes."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{table} is no csv table ({error}): download it again") from error
    if not rows or not {"ImageId", "PredictionString"} <= set(rows[0]):
        raise UserError(f"{table} must have the columns ImageId and PredictionString")
    told = {row["ImageId"]: (row["PredictionString"] or "").split() for row in rows}
    return {image: words[0] for image, words in told.items() if words}


def _from_devkit(root: Path) -> Mapping[str, str]:
    """A line a validation image with the number of its class, and the classes of the numbers."""
    truth, meta = _devkit_file(root, _TRUTH), _devkit_file(root, _META)
    if truth is None or meta is None:
        raise UserError(
            f"{root} does not tell the classes of the validation images: put {KAGGLE}, or "
            f"{_DEVKIT}.tar.gz, into it, or sort the images into class folders"
        )
    try:
        wnids = _wnids(meta)
        numbers = [int(line) for line in truth.split()]
        return {f"ILSVRC2012_val_{k:08d}": wnids[number] for k, number in enumerate(numbers, 1)}
    except Exception as error:  # scipy raises whatever it stumbles over
        raise UserError(
            f"{_TRUTH} or {_META} in {root} is damaged ({error}): unpack {_DEVKIT}.tar.gz again"
        ) from error


def _wnids(meta: bytes) -> dict[int, str]:
    """WordNet ids by class number, from MATLAB's table of synsets."""
    from scipy.io import loadmat  # slow to import

    synsets: Any = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets.reshape(-1)}


def _devkit_file(root: Path, name: str) -> bytes | None:
    """A file of the devkit, unpacked or not."""
    folder = _find(root, _DEVKIT)
    if folder is not None and (folder / name).is_file():
        return (folder / name).read_bytes()
    for loose in (root / name, root / Path(name).name):
        if loose.is_file():
            return loose.read_bytes()
    archive = _find(root, f"{_DEVKIT}.tar.gz") or _find(root, f"{_DEVKIT}.tar")
    if archive is None:
        return None
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"{_DEVKIT}/{name}")
            return None if member is None else member.read()
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise UserError(f"{archive} is no whole devkit: download it again") from error
