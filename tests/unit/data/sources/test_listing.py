"""Folders as they are met: odd names, links in circles, closed folders, classes, lists."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.sources.celebahq import CelebAHQ
from ldmlab.data.sources.image_folder import ImageFolder
from ldmlab.data.sources.listing import Names, files_below, natural_order, shown


def encoded() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), (200, 30, 60)).save(out, "JPEG")
    return out.getvalue()


JPEG = encoded()


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    return root


def both(root: Path, **options) -> list[ImageFolder]:
    return [ImageFolder(split, root, **options) for split in ("train", "validation")]


# Names


def test_cyclic_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path, "a/0.jpg", "b/1.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "itself").symlink_to(tmp_path / "b" / "itself")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "a" / "0.jpg")
    (tmp_path / "d").symlink_to(tmp_path / "b")
    assert files_below(tmp_path) == ["a/0.jpg", "b/1.jpg", "c.jpg", "d/1.jpg"]


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"new\nline.jpg", b"-f.jpg", b" [x]{y}=%20.jpg"])
def test_files_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    write(tmp_path, "plain.jpg", "x.jpg")
    (tmp_path / "x.jpg").rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    layouts = both(tmp_path)
    assert all(layout.read(0).image == JPEG for layout in layouts)
    for layout in layouts:
        assert layout.name(0).isprintable() and layout.name(0).encode()


def test_unprintable_file_names_are_escaped() -> None:
    assert shown("a/ü 🏠.jpg") == "a/ü 🏠.jpg"
    assert shown("a\nb\udce9\x1b[2J") == "a\\nb\\udce9\\x1b[2J"


def test_names_round_trip_and_one_long_name_costs_no_memory() -> None:
    names = ["a", "ü" * 100, "caf\udce9", "", "b"]
    held = Names(names)
    assert [held[k] for k in range(5)] == names and held[-1] == "b" and len(held) == 5
    with pytest.raises(IndexError):
        held[5]
    many = Names(["x" * 4000, *(str(k) for k in range(10_000))])
    assert sum(getattr(v, "nbytes", len(v)) for v in vars(many).values()) < 200_000


def test_file_name_seeds_are_stable() -> None:
    assert derive_seed("split", "a.jpg") == 5650964084871274669
    assert derive_seed("split", "caf\udce9") != derive_seed("split", "caf\udcea")


# Roots


@pytest.mark.parametrize("layout", [ImageFolder, CelebAHQ])
def test_unreadable_folder_is_named(tmp_path: Path, layout, monkeypatch) -> None:
    write(tmp_path / "data", "a.jpg", "b.jpg", "sub/c.jpg")
    scandir = os.scandir

    def closed(folder):
        if str(folder).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match=r"data/sub cannot be read \(Permission denied\)"):
        layout("train", tmp_path / "data")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"data\.root=.*data may not be read"):
        layout("train", tmp_path / "data")


@pytest.mark.parametrize("layout", [ImageFolder, CelebAHQ])
def test_single_image_cannot_be_split(tmp_path: Path, layout) -> None:
    write(tmp_path, "0.jpg")
    with pytest.raises(UserError, match=rf"{tmp_path} holds 1 image; .*change data\.root"):
        layout("train", tmp_path)


# Classes


def test_image_folder_class_has_one_index_in_both_splits(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{c}/{k}.jpg" for c in "abc" for k in range(2)))
    write(tmp_path, "val/b/0.jpg", "val/c/0.jpg")
    held = ImageFolder("validation", tmp_path, class_folders=True)
    assert held.classes == ("a", "b", "c")
    assert {held.name(i)[-7:]: held.read(i).label for i in range(2)} == {"b/0.jpg": 1, "c/0.jpg": 2}
    write(tmp_path, "val/aa/0.jpg")
    with pytest.raises(UserError, match=r"val has the class folder aa, which the training data"):
        ImageFolder("validation", tmp_path, class_folders=True)


def test_root_above_the_class_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "data/a/0.jpg", "data/b/0.jpg")
    with pytest.raises(UserError, match=r"holds one class folder, data: let data\.root be"):
        ImageFolder("train", tmp_path, class_folders=True)
    assert both(tmp_path / "data", class_folders=True)[0].classes == ("a", "b")


@pytest.mark.parametrize("masks", ["masks", "./masks/", "{root}/masks"])
def test_mask_folder_within_the_images_is_no_class(tmp_path: Path, masks: str) -> None:
    write(tmp_path, "a/0.jpg", "b/0.jpg")
    for name in "ab":
        (tmp_path / "masks" / name).mkdir(parents=True)
        Image.new("L", (16, 12), 1).save(tmp_path / "masks" / name / "0.png")
    named = masks.format(root=tmp_path)
    layouts = both(tmp_path, class_folders=True, masks=named, num_mask_labels=2)
    assert [len(layout) for layout in layouts] == [1, 1] and layouts[0].classes == ("a", "b")
    assert all(layout.read(0).mask.decode().unique().tolist() == [1] for layout in layouts)


# Lists


def test_empty_or_useless_validation_lists_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "plain", "0.jpg", "1.jpg")
    listed = tmp_path / "list.txt"
    listed.write_text("0.jpg\n1.jpg\n")
    with pytest.raises(UserError, match=r"data\.validation_list=.* leaves none to train on"):
        ImageFolder("train", root, validation_list=str(listed))
    folders = write(tmp_path / "folders", "train/0.jpg", "val/1.jpg")
    with pytest.raises(UserError, match=r"validation_list=.* is of no use.*leave it out"):
        ImageFolder("train", folders, validation_list=str(listed))


def test_celebahq_lists_must_be_disjoint_and_leave_training_images(tmp_path: Path) -> None:
    root = write(tmp_path / "faces", *(f"{k}.jpg" for k in range(3)))
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("imgHQ00000.npy\r\nimgHQ00001.npy\r\n", encoding="utf-8-sig")
    second.write_text("imgHQ00001.npy\nimgHQ00002.npy\n")
    with pytest.raises(UserError, match=r"share 1 images, such as 1\.jpg"):
        CelebAHQ("train", root, str(first), str(second))
    assert len(CelebAHQ("train", root, str(first))) == 2
    first.write_text("0\n1\n2\n")
    with pytest.raises(UserError, match="leaves none to train"):
        CelebAHQ("train", root, None, str(first))


def test_celebahq_masks_are_not_images_from_a_folder_above(tmp_path: Path) -> None:
    write(tmp_path, *(f"CelebAMask-HQ/CelebA-HQ-img/{k}.jpg" for k in range(4)))
    write(tmp_path, *(f"CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/{k}_hair.png" for k in range(4)))
    for root in (tmp_path, tmp_path / "CelebAMask-HQ"):
        assert len(CelebAHQ("train", root)) + len(CelebAHQ("validation", root)) == 4


def test_dangling_link_is_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    layouts = both(tmp_path)
    row = next(layout for layout in layouts if layout.name(0).endswith("b.jpg"))
    with pytest.raises(BrokenFileError, match="No such file"):
        row.read(0)


def test_numbered_class_folders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, *(f"{k}/{side}.jpg" for k in range(12) for side in "ab"))
    source = ImageFolder("train", tmp_path, class_folders=True)
    assert source.classes == tuple(map(str, range(12)))
    for i in range(len(source)):
        assert source.read(i).label == int(Path(source.name(i)).parent.name)
    mixed = ["b", "a10", "a9", "a09", "10", "9"]
    assert natural_order(mixed) == ["9", "10", "a09", "a9", "a10", "b"]


def test_files_that_are_no_images_here_are_counted_by_kind(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg", "c.heic", "d.HEIC", "x/e.jxl", "@eaDir/f.jpg", ".g.heic")
    (tmp_path / "captions.csv").write_text("file_name,text\n")
    with pytest.warns(UserWarning, match=r"left out.*2 x \.heic") as warned:
        source = ImageFolder("train", tmp_path)
    assert len(warned) == 1
    assert source.left_out == {".heic": 2, ".jxl": 1, "folder @eaDir": 1}
    assert len(ImageFolder("validation", tmp_path)) + len(source) == 2


def test_black_and_white_masks_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "i/0.jpg", "i/1.jpg")
    (tmp_path / "m").mkdir()
    values = np.zeros((12, 16), np.uint8)
    for name, white in (("0", 0), ("1", 255)):
        values[3:6] = white
        Image.fromarray(values).save(tmp_path / "m" / f"{name}.png")
    with pytest.raises(UserError, match=r"masks of 0 and 255, and 255 is a pixel without a label"):
        ImageFolder("train", tmp_path, images="i", masks="m", num_mask_labels=2)
    # Three values are labels and unlabelled pixels, and so are two where the user says so.
    ImageFolder("train", tmp_path, images="i", masks="m", num_mask_labels=3)
    values[3:6] = 1
    Image.fromarray(values).save(tmp_path / "m" / "0.png")
    ImageFolder("train", tmp_path, images="i", masks="m", num_mask_labels=2)
