"""Broken files are replaced, counted over processes and named; views follow seed and step."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ldmlab.core.errors import UserError
from ldmlab.data.images.dataset import ImageDataset, broken_files
from ldmlab.data.images.inspect import inspect
from ldmlab.data.images.report import Report
from ldmlab.data.images.transform import Transform
from ldmlab.data.sampling.step_batches import SeededIndex, StepBatches
from ldmlab.data.sources.image_folder import ImageFolder
from ldmlab.data.specimens.scenes import scenes

BROKEN = {3: b"", 7: b"<html>not found</html>", 11: None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, scene in enumerate(scenes(20, 32)):
        data = scene.encoded()
        if k in BROKEN:
            data = data[: len(data) // 2] if BROKEN[k] is None else BROKEN[k]
        (tmp_path / f"{k:02d}.jpg").write_bytes(data)
    (tmp_path / "held").write_text("19.jpg\n")
    return tmp_path


def pictures(folder: Path, max_bad: int = 5, **view: object) -> ImageDataset:
    layout = ImageFolder("train", folder, validation_list=str(folder / "held"))
    return ImageDataset(layout, Transform(16, **view), max_bad)  # type: ignore[arg-type]


def load(data: ImageDataset, workers: int, steps: int = 8) -> list[torch.Tensor]:
    batches = iter(StepBatches(len(data), 5, seed=1))
    loader = DataLoader(
        data, batch_sampler=[next(batches) for _ in range(steps)], num_workers=workers,
        collate_fn=lambda batch: batch,
    )  # fmt: skip
    return [batch.image for batch in loader]


def test_image_bits_do_not_depend_on_the_workers(folder: Path) -> None:
    runs = [load(pictures(folder, flip=True, crop="random", resized=20), w) for w in (0, 2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_transforms_change_between_epochs_and_not_between_runs(folder: Path) -> None:
    data = pictures(folder, flip=True, crop="random", resized=24)
    stream = iter(StepBatches(len(data), len(data), seed=1))
    first, second = ({int(v): v for v in next(stream)} for _ in range(2))
    assert set(first) == set(second) == set(range(19))
    differing = [i for i in first if not torch.equal(*(data[e[i]].image for e in (first, second)))]
    assert len(differing) > 12
    resumed = next(iter(StepBatches(len(data), len(data), seed=1, start=1)))
    assert [(int(v), v.seed) for v in resumed] == [(int(v), v.seed) for v in second.values()]


def test_seeded_index_is_an_int_and_pickles() -> None:
    visit = pickle.loads(pickle.dumps(SeededIndex(5, 77)))
    assert visit == 5 and isinstance(visit, SeededIndex) and visit.seed == 77
    assert torch.as_tensor([visit]).tolist() == [5]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_replaced_and_counted(folder: Path, workers: int) -> None:
    data = pictures(folder)
    images = load(data, workers)
    assert sum(map(len, images)) == 40
    assert [Path(name).name for name in broken_files(data)] == ["03.jpg", "07.jpg", "11.jpg"]


def test_substitute_image_depends_on_the_index_only(folder: Path) -> None:
    alone = pictures(folder)[3]
    after_others = pictures(folder)
    after_others.__getitems__([11, 7, 0, 5])
    assert torch.equal(after_others[3].image, alone.image)
    assert alone.index.tolist() == [3]
    assert any(torch.equal(pictures(folder)[i].image, alone.image) for i in range(19) if i != 3)


def test_broken_file_beyond_the_limit_is_named(folder: Path) -> None:
    data = pictures(folder, max_bad=2)
    data.__getitems__([3, 7])
    with pytest.raises(UserError, match=r"data\.max_bad=2 .*11\.jpg is no whole image"):
        data[11]


def test_data_set_of_broken_files_ends(folder: Path) -> None:
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 19 samples"):
        pictures(folder, max_bad=100)[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_inspect_finds_every_kind_of_fault(folder: Path, workers: int) -> None:
    (folder / "05.jpg").write_bytes((folder / "02.jpg").read_bytes())
    report, earlier = Report(), {}
    for finding in inspect(pictures(folder), workers):
        report.add(finding, earlier)
    assert (report.count, report.usable) == (19, 16)
    assert {Path(name).name for name in report.broken} == {"03.jpg", "07.jpg", "11.jpg"}
    assert {Path(a).name: Path(b).name for a, b in report.duplicates.items()} == {
        "05.jpg": "02.jpg"
    }
    assert report.sizes == {(32, 32): 16}


def test_inspect_counts_what_the_model_will_not_see(tmp_path: Path) -> None:
    grey = Image.new("L", (64, 48), 90)
    grey.save(tmp_path / "0.png")
    grey.save(tmp_path / "1.png")
    Image.new("RGBA", (12, 12)).save(tmp_path / "2.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "3.png")
    (tmp_path / "4.heic").touch()
    with pytest.warns(UserWarning, match="left out"):
        source = ImageFolder("train", tmp_path, validation_share=1e-9)
    report = Report(left_out=source.left_out)
    for finding in inspect(ImageDataset(source, Transform(16), 1)):
        report.add(finding, {})
    held = ImageFolder("validation", tmp_path, validation_share=1e-9)
    for finding in inspect(ImageDataset(held, Transform(16), 1)):
        report.add(finding, {})
    assert report.changes == {
        "grey to three equal channels": 2,
        "transparency to the background's colour": 1,
        "cut to a square": 2,
        "enlarged to 16 pixels": 1,
    }
    ((name, why),) = report.broken.items()
    assert Path(name).name == "3.png" and "has 1 x 1 pixels, too few to be enlarged to 16" in why
    rows = report.rows(())
    assert ("changed", "2: grey to three equal channels") in rows
    assert ("left out", "1 x .heic") in rows


def test_batch_holds_the_transformed_pixels_as_floats(folder: Path) -> None:
    data = pictures(folder, flip=True, crop="random", resized=24)
    visits = [SeededIndex(index, index + 1) for index in (0, 1, 2, 4)]
    image = data.__getitems__(visits).image
    seen = torch.stack([data.look(visit, visit.seed)[1].image for visit in visits])
    assert image is not None and image.is_contiguous()
    assert torch.equal(image, seen.float() / 127.5 - 1)
