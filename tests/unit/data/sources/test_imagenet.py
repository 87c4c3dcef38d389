"""ImageNet as people have it: incomplete, mixed, with tables that were edited."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ldmlab.core.errors import UserError
from ldmlab.data.sources.imagenet import ImageNet

WNIDS = ("n01440764", "n01443537", "n01484850")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SOLUTION = "ImageId,PredictionString\n" + "".join(
    f"ILSVRC2012_val_{k:08d},{WNIDS[k - 1]} 85 1 499 272 \n" for k in (1, 2, 3)
)


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"image of " + name.encode())
    return root


def meta() -> bytes:
    """MATLAB's table of synsets, in another order than that of the WordNet ids."""
    synsets = np.zeros((3, 1), [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    for row, (number, wnid) in enumerate(zip((2, 3, 1), WNIDS, strict=True)):
        synsets[row, 0] = (np.array([[number]], np.uint8), wnid, "fish")
    out = io.BytesIO()
    savemat(out, {"synsets": synsets})
    return out.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, *(f"train/{w}/{w}_{k}.JPEG" for w in WNIDS for k in range(2)))
    return write(tmp_path, *(f"val/ILSVRC2012_val_{k:08d}.JPEG" for k in (1, 2, 3)))


def labels(root: Path) -> list[int | None]:
    data = ImageNet("validation", root, 3)
    return [data.read(i).label for i in range(len(data))]


def test_imagenet_class_has_one_index_in_both_splits(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{w}/0.JPEG" for w in WNIDS))
    write(tmp_path, *(f"val/{w}/0.JPEG" for w in WNIDS[1:]))
    assert ImageNet("validation", tmp_path, 3).classes == WNIDS and labels(tmp_path) == [1, 2]
    write(tmp_path, "val/n00000001/0.JPEG")
    with pytest.raises(UserError, match=r"validation images of n00000001, which is none of the 3"):
        ImageNet("validation", tmp_path, 3)


def test_imagenet_devkit_ids_are_not_class_indices(root: Path) -> None:
    (root / "meta.mat").write_bytes(meta())
    (root / TRUTH).write_text("1\n2\n3\n")
    assert labels(root) == [2, 0, 1]


@pytest.mark.parametrize("truth", ["1\n2\n77\n", "1\n2\nx\n", "1\n2\n3\n"])
def test_imagenet_damaged_devkit_is_named(root: Path, truth: str) -> None:
    (root / "meta.mat").write_bytes(meta() if "3\n" not in truth else b"no table")
    (root / TRUTH).write_text(truth)
    with pytest.raises(UserError, match=r"ground_truth\.txt or data/meta\.mat .* is damaged"):
        ImageNet("validation", root, 3)


@pytest.mark.parametrize("spoil", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")])
def test_imagenet_edited_kaggle_table_is_read(root: Path, spoil) -> None:
    (root / "LOC_val_solution.csv").write_text(spoil(SOLUTION), encoding="utf-8", newline="")
    assert labels(root) == [0, 1, 2]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (SOLUTION.encode("utf-16"), "is no csv table"),
        (SOLUTION.replace(",", ";").encode(), "must have the columns ImageId"),
        (SOLUTION.encode()[:42], r"class of 3 validation images.*LOC_val_solution"),
        (SOLUTION[: SOLUTION.index("3,")].encode(), "class of 1 validation images"),
    ],
)
def test_imagenet_damaged_kaggle_table_is_named(root: Path, table: bytes, said: str) -> None:
    (root / "LOC_val_solution.csv").write_bytes(table)
    with pytest.raises(UserError, match=said):
        ImageNet("validation", root, 3)


def test_imagenet_splits_may_have_different_forms(root: Path) -> None:
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        for k in (1, 2, 3):
            name = f"ILSVRC2012_val_{k:08d}.JPEG"
            tar.add(root / "val" / name, name)
            (root / "val" / name).unlink()
    (root / "val").rmdir()
    (root / "LOC_val_solution.csv").write_text(SOLUTION)
    assert labels(root) == [0, 1, 2] and len(ImageNet("train", root, 3)) == 6
    held = ImageNet("validation", root, 3)
    assert held.read(0).image == b"image of val/ILSVRC2012_val_00000001.JPEG"


def test_imagenet_file_outside_class_folders_is_named(root: Path, tmp_path: Path) -> None:
    write(root, "train/lost+found/0.JPEG")
    with pytest.raises(UserError, match=r"lost\+found/0\.JPEG lies in no class folder"):
        ImageNet("train", root, 3)
    words = write(tmp_path / "words", "train/tench/0.JPEG", "val/tench/0.JPEG")
    with pytest.raises(UserError, match=r"tench/0\.JPEG lies in .*take data=image_folder"):
        ImageNet("train", words, 3)


def test_imagenet_missing_split_is_named(root: Path) -> None:
    for path in (root / "val").iterdir():
        path.unlink()
    (root / "val").rmdir()
    assert len(ImageNet("train", root, 3)) == 6
    with pytest.raises(UserError, match=r"holds no validation images .*it holds the folders train"):
        ImageNet("validation", root, 3)
