"""A folder of images is looked into: what it holds is told, and nothing is guessed that is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.data.sources.contents import look_into


def _images(folder: Path, names: list[str], size: tuple[int, int] = (40, 30)) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (200, 10, 10)).save(path)


def _masks(folder: Path, names: list[str], labels: list[int]) -> None:
    for name in names:
        path = (folder / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.resize(np.array(labels, np.uint8), (30, 40))
        Image.fromarray(pixels).save(path)


def test_plain_images_have_no_condition(tmp_path: Path) -> None:
    _images(tmp_path, [f"{k}.png" for k in range(9)])
    _images(tmp_path, [f"large{k}.png" for k in range(4)], (100, 120))
    found = look_into(tmp_path)
    assert (found.count, found.images, found.side) == (13, None, 30)
    assert (found.captions, found.classes, found.masks) == (None, (), None)


def test_folders_are_classes_where_each_image_lies_in_one(tmp_path: Path) -> None:
    names = [f"{kind}/{k}.png" for kind in ("2", "10", "cat") for k in range(5)]
    _images(tmp_path, names)
    assert look_into(tmp_path).classes == ("2", "10", "cat")
    _images(tmp_path, ["loose.png"])
    assert look_into(tmp_path).classes == ()


def test_folders_of_few_images_are_no_classes(tmp_path: Path) -> None:
    _images(tmp_path, [f"{day}/{k}.png" for day in range(6) for k in range(3)])
    assert look_into(tmp_path).classes == ()


def test_text_files_beside_half_of_the_images_are_captions(tmp_path: Path) -> None:
    _images(tmp_path, [f"{k}.jpg" for k in range(8)])
    for k in range(3):
        (tmp_path / f"{k}.txt").write_text("a red field")
    assert look_into(tmp_path).captions is None
    (tmp_path / "3.txt").write_text("a red field")
    assert look_into(tmp_path).captions == "txt"


def test_table_that_names_the_images_gives_captions(tmp_path: Path) -> None:
    names = [f"{k}.jpg" for k in range(8)]
    _images(tmp_path / "images", names)
    (tmp_path / "authors.csv").write_text("name,text\nan author,a life\n")
    rows = [{"file_name": f"images/{name}", "text": "a red field"} for name in names]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = look_into(tmp_path)
    assert (found.images, found.count, found.captions) == ("images", 8, "metadata.jsonl")


def test_masks_are_counted_by_their_labels_and_are_no_images(tmp_path: Path) -> None:
    names = [f"{k}.jpg" for k in range(6)]
    _images(tmp_path / "images", names)
    _masks(tmp_path / "masks", names, [0, 3, 255])
    found = look_into(tmp_path)
    assert (found.count, found.masks, found.num_mask_labels) == (6, "masks", 4)
    assert found.classes == ()


def test_folder_called_labels_without_masks_is_a_folder_of_images(tmp_path: Path) -> None:
    _images(tmp_path, [f"labels/{k}.jpg" for k in range(6)])
    _images(tmp_path, [f"bottles/{k}.jpg" for k in range(6)])
    found = look_into(tmp_path)
    assert (found.count, found.masks, found.classes) == (12, None, ("bottles", "labels"))


def test_unreadable_images_do_not_count_for_the_size(tmp_path: Path) -> None:
    _images(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert look_into(tmp_path).side == 30
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="none of the images"):
        look_into(tmp_path)


def test_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root is not set"):
        look_into(None)
    with pytest.raises(UserError, match="holds no images"):
        look_into(tmp_path)


def test_channels_and_depth_are_told(tmp_path: Path) -> None:
    _images(tmp_path, ["a.png", "b.jpg"])
    Image.new("L", (40, 30)).save(tmp_path / "grey.png")
    found = look_into(tmp_path)
    assert (found.channels, found.bits) == (3, 8)
    for name, array, kind in [
        ("grey", np.zeros((30, 40), np.uint16), (1, 16)),
        ("four", np.zeros((4, 30, 40), np.uint8), (4, 8)),
        ("floats", np.zeros((2, 30, 40), np.float32), (2, "float")),
    ]:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", array)
        found = look_into(tmp_path / name)
        assert (found.channels, found.bits) == kind and found.side == 30
    with pytest.raises(UserError, match="several kinds"):
        look_into(tmp_path)
