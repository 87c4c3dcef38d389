"""Sets of images: which are there, in which order, and what names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.data.digits import Digits
from ldmlab.evaluation.images.dataset import DatasetImages, DrawnImages
from ldmlab.evaluation.images.folder import FolderImages
from ldmlab.evaluation.images.image_set import as_pictures
from ldmlab.evaluation.images.npz import NpzImages


def _save(folder: Path, name: str, level: int, mode: str = "RGB", size: int = 4) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), level if mode == "L" else (level, 0, 0)).save(path)


def test_folder_is_read_in_natural_order_without_its_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, level in (("10.png", 10), ("2.png", 2), ("grid.png", 99)):
        _save(tmp_path, name, level)
    _save(tmp_path, "1.png", 1, "L", 6)
    (tmp_path / "odd.heic").write_bytes(b"?")
    images = FolderImages(tmp_path, "samples")
    assert images.files == ["1.png", "2.png", "10.png"] and images.classes == ()
    found = images.read(range(0, 3))
    assert [int(image[0, 0, 0]) for image in found.images] == [1, 2, 10]
    assert [image.shape[-1] for image in found.images] == [6, 4, 4]
    assert found.labels is None
    told = capsys.readouterr().err
    assert "1 x .heic" in told and "1 x grid.png" in told


def test_class_folders_give_labels(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "b/0.png"):
        _save(tmp_path, name, 1)
    images = FolderImages(tmp_path, "samples")
    assert images.classes == ("a", "b")
    found = images.read(range(0, 3)).labels
    assert found is not None and found.tolist() == [0, 1, 1]


def test_folder_is_known_by_names_and_bytes(tmp_path: Path) -> None:
    for folder, level in (("x", 1), ("y", 1), ("z", 2)):
        _save(tmp_path / folder, "1.png", level)
    names = [FolderImages(tmp_path / f, "samples").fingerprint() for f in "xyz"]
    assert names[0] == names[1] != names[2]


def test_folder_with_a_broken_image_is_refused_by_its_name(tmp_path: Path) -> None:
    _save(tmp_path, "1.png", 1)
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"samples=.*2\.png .*repair it"):
        FolderImages(tmp_path, "samples").read(range(0, 2))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"reference=.*holds no images"):
        FolderImages(tmp_path / "empty", "reference")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read_in_parts(save: object, tmp_path: Path) -> None:
    array = np.random.RandomState(0).randint(0, 256, (7, 5, 4, 3)).astype(np.uint8)
    file = tmp_path / "a.npz"
    save(file, array, np.arange(7))  # type: ignore[operator]
    images = NpzImages(file, "samples")
    assert len(images) == 7
    for rows in (range(4, 7), range(0, 3), range(2, 5)):
        found = images.read(rows)
        stacked = torch.stack(list(found.images)).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(stacked, array[rows.start : rows.stop])
        assert found.labels is not None and found.labels.tolist() == list(rows)


def test_grey_npz_has_three_channels_and_no_labels(tmp_path: Path) -> None:
    array = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    np.savez(tmp_path / "a.npz", array)
    found = NpzImages(tmp_path / "a.npz", "samples").read(range(0, 1))
    assert found.labels is None
    assert np.array_equal(found.images[0].numpy(), array[0].transpose(2, 0, 1).repeat(3, 0))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": np.zeros(3), "sigma": np.zeros((3, 3))}, "holds no images .arr_0., only mu, sigma"),
        ({"arr_0": np.zeros((2, 4, 4, 3))}, "arr_0 is float64 of shape"),
        ({"arr_0": np.zeros((2, 3, 4, 4), np.uint8)}, "images are uint8 of"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(3, int)}, "arr_1 holds no"),
    ],
)
def test_npz_of_something_else_is_refused(
    arrays: dict[str, np.ndarray], words: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=words):
        NpzImages(tmp_path / "a.npz", "reference")


def test_npz_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="is no npz file"):
        NpzImages(tmp_path / "a.npz", "samples")


def test_data_sets_are_seen_as_bytes_of_three_channels() -> None:
    digits = Digits("test")
    images = DatasetImages(digits, "split test", {"a": 1})
    found = images.read(range(3, 5))
    batch = digits.__getitems__([3, 4])
    assert batch.image is not None and batch.label is not None and found.labels is not None
    levels = ((batch.image + 1) * 127.5).round()
    assert torch.equal(torch.stack(list(found.images)).float(), levels.expand(-1, 3, -1, -1))
    assert torch.equal(found.labels, batch.label)
    assert images.classes == Digits.classes
    darker = images.of(digits, "dark ", lambda b: b.image * 0 - 1, dark=True)  # type: ignore
    assert int(torch.stack(list(darker.read(range(0, 2)).images)).max()) == 0
    names = {
        x.fingerprint() for x in (images, darker, images.of(Digits("test", num_samples=9), ""))
    }
    assert len(names) == 3


def test_drawn_images_are_asked_for_by_their_numbers() -> None:
    asked: list[tuple[int, int]] = []

    def draw(batch: object, first: int) -> torch.Tensor:
        asked.append((len(batch), first))  # type: ignore[arg-type]
        return torch.zeros(len(batch), 1, 4, 4)  # type: ignore[arg-type]

    from ldmlab.data.sampling.datasets import Cycle

    images = DrawnImages(draw, Cycle(Digits("test"), 500), "samples", {})  # type: ignore[arg-type]
    found = images.read(range(198, 203))
    assert asked == [(5, 198)] and len(images) == 500
    wanted = Digits("test").__getitems__([198, 199, 0, 1, 2]).label
    assert found.labels is not None and wanted is not None
    assert torch.equal(found.labels, wanted)


def test_pixels_that_networks_cannot_read_are_refused() -> None:
    with pytest.raises(UserError, match="2 channels"):
        as_pictures(torch.zeros(1, 2, 4, 4), "mine")
    with pytest.raises(UserError, match="mine holds pixels that are not finite"):
        as_pictures(torch.full((1, 3, 4, 4), torch.nan), "mine")
