"""Label maps that a user names: in the frame, checked, named and counted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.data.images.frame import Frame
from ldmlab.data.images.label_maps import LabelMapFiles


def write(path: Path, labels: list[list[int]], mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(labels, dtype=np.uint8))
    if mode == "P":
        image.putpalette([k for k in range(255, -1, -1) for _ in range(3)])  # colours say nothing
    image.save(path)


def read(path: Path, count: int = 1, first: int = 0, unlabelled: int = 255) -> LabelMapFiles:
    return LabelMapFiles(path, "masks", count, 3, Frame(2, 2, 2, "crop"), first, unlabelled)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_label_map_becomes_the_nearest_of_its_middle(tmp_path: Path, mode: str) -> None:
    wide = [[2, 0, 0, 1, 1, 2], [2, 0, 0, 1, 1, 2], [2, 255, 255, 2, 2, 2], [2, 255, 255, 2, 2, 2]]
    write(tmp_path / "a.png", wide, mode)
    maps = read(tmp_path / "a.png", 3)
    assert len(maps) == 3 and maps.names == ["a.png"] * 3
    part = maps[[2, 0]]
    assert part.mask is not None and part.index.tolist() == [2, 0]
    assert part.mask.tolist() == [[[0, 1], [255, 2]]] * 2
    assert maps.notes == ["1 of 1 cut to a square"]
    data = (tmp_path / "a.png").read_bytes()
    assert maps.digests == [hashlib.sha256(data).hexdigest()[:16]] * 3


def test_a_folder_gives_each_of_its_maps_once_in_natural_order(tmp_path: Path) -> None:
    for k, name in enumerate(("2.png", "10.png", "b/1.png")):
        write(tmp_path / name, [[k + 1] * 2] * 2)
    (tmp_path / "x.zip").touch()
    maps = read(tmp_path, 7, first=1, unlabelled=0)
    assert maps.names == ["2.png", "10.png", "b/1.png"]
    assert maps.notes == ["left out, being no image: 1 x .zip"]
    part = maps[[0, 1, 2]]
    assert part.mask is not None and part.mask[:, 0, 0].tolist() == [0, 1, 2]


def test_what_is_no_label_map_of_the_model_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a/0.png", [[0, 3], [0, 0]])
    with pytest.raises(UserError, match=r"masks=.*0\.png has the label 3, out of range 0 to 2"):
        read(tmp_path / "a")
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="is a mask in colours"):
        read(tmp_path / "b.png")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        read(tmp_path / "c")
    with pytest.raises(UserError, match=r"none\.png cannot be read"):
        read(tmp_path / "none.png")
