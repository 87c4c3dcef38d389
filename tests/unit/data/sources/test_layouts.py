"""Every data set in every form in which it is handed out, and what is said of a wrong folder."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.decode import BrokenFileError, decode_image
from ldmlab.data.images.source import identity_of
from ldmlab.data.images.transform import Transform
from ldmlab.data.shards.dataset import Shards
from ldmlab.data.shards.tar import members
from ldmlab.data.sources.celebahq import CelebAHQ
from ldmlab.data.sources.image_folder import ImageFolder
from ldmlab.data.sources.imagenet import ImageNet
from ldmlab.data.specimens.imagenet import WNIDS, tar_of
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make
from ldmlab.data.specimens.scenes import scenes

SPECIMENS = [(name, form) for name, forms in FORMS.items() for form in forms]
LAYOUTS = {
    "celebahq": CelebAHQ, "imagenet": ImageNet, "landscapes": ImageFolder,
    "image_folder": ImageFolder, "laion": Shards,
}  # fmt: skip
DEFAULTS = {"landscapes": {"images": "images", "masks": "masks", "num_mask_labels": 182}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("specimens")
    for name, form in SPECIMENS:
        make(name, folder / f"{name}_{form}", form, 12, 64)
    return folder


def layout(root: Path, name: str, form: str, split: str = "train"):
    options = dict(DEFAULTS.get(name, {}))
    for override in OVERRIDES.get((name, form), "").split():
        key, _, value = override.removeprefix("data.").partition("=")
        options[key] = int(value) if value.isdigit() else True if value == "true" else value
    return LAYOUTS[name](split, root / f"{name}_{form}", **options)


def pictures(root: Path, name: str, form: str, split: str = "train") -> ImageDataset:
    return ImageDataset(layout(root, name, form, split), Transform(32))


@pytest.mark.parametrize(("name", "form"), SPECIMENS)
def test_layout_splits_are_disjoint_and_batches_complete(root: Path, name: str, form: str) -> None:
    train, held = (pictures(root, name, form, split) for split in ("train", "validation"))
    names = [[data.source.name(i) for i in range(len(data))] for data in (train, held)]
    assert len(train) and len(held) and not set(names[0]) & set(names[1])
    batch = train.__getitems__(list(range(len(train))))
    assert batch.image is not None and batch.image.shape == (len(train), 3, 32, 32)
    assert -1 <= batch.image.min() < -0.2 and 0.2 < batch.image.max() <= 1
    has = {
        "label": name == "imagenet" or form == "classes",
        "mask": name == "landscapes" or form == "masks",
        "caption": name == "laion" or form in ("txt", "csv", "jsonl"),
    }
    for field, expected in has.items():
        value = getattr(batch, field)
        assert (value is not None and len(value) == len(train)) == expected
    if has["label"]:
        assert set(batch.label.tolist()) == set(range(len(train.classes)))
    if has["mask"]:
        assert set(batch.mask.unique().tolist()) <= {*range(12), 255}
    if has["caption"]:
        assert train.captions([0, 1]) == batch.caption[:2] and all(batch.caption)
    again = train.__getitems__(list(range(len(train))))
    assert torch.equal(batch.image, again.image)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_imagenet_is_equal_in_each_form(root: Path, split: str) -> None:
    def content(form: str) -> dict[str, tuple[int, bytes]]:
        data = layout(root, "imagenet", form, split)
        found = {}
        for i in range(len(data)):
            sample = data.read(i)
            found[Path(data.name(i)).name] = sample.label, sample.image
        return found

    folders = content("folders")
    assert all(content(form) == folders for form in ("tars", "kaggle", "flat"))
    if split == "train":
        assert all(WNIDS[label] == name[:9] for name, (label, _) in folders.items())


def test_layout_identity_does_not_depend_on_its_place(root: Path) -> None:
    layout = CelebAHQ("validation", root / "celebahq_jpg")
    # The lines under a hash that caches of latents hold: they may not change.
    assert list(identity_of(layout, 2)) == ["/00009.jpg", "/00010.jpg"]
    moved = shutil.copytree(root / "celebahq_jpg", root / "moved" / "deeper")
    assert list(identity_of(CelebAHQ("validation", moved), 2)) == list(identity_of(layout, 2))


def test_palette_and_grey_masks_are_equal(root: Path) -> None:
    grey, palette, ade = (
        layout(root, "landscapes", form) for form in ("grey", "palette", "ade20k")
    )
    assert torch.equal(grey.read(3).mask.decode(), palette.read(3).mask.decode())
    assert set(ade.read(3).mask.decode().unique().tolist()) <= {*range(12), 255}


def test_celebahq_official_lists_split_any_form(root: Path, tmp_path: Path) -> None:
    lists = root / "celebahq_npy"
    by_list = [
        CelebAHQ(split, root / "celebahq_jpg", str(lists / "celebahqtrain.txt"),
                 str(lists / "celebahqvalidation.txt"))
        for split in ("train", "validation")
    ]  # fmt: skip
    assert [Path(by_list[1].name(i)).name for i in range(2)] == ["00000.jpg", "00001.jpg"]
    assert len(by_list[0]) == 10
    one = CelebAHQ("train", root / "celebahq_jpg", None, str(lists / "celebahqvalidation.txt"))
    assert [one.name(i) for i in range(10)] == [by_list[0].name(i) for i in range(10)]
    short = tmp_path / "list.txt"
    short.write_text("imgHQ29999.npy\n")
    with pytest.raises(UserError, match=r"data\.validation_list=.*imgHQ29999"):
        CelebAHQ("validation", root / "celebahq_jpg", None, str(short))


def test_seeded_split_of_a_file_does_not_depend_on_the_others(tmp_path: Path) -> None:
    from ldmlab.data.sources.listing import held_out

    names = [f"{k}.jpg" for k in range(1000)]
    few = {names[i] for i in held_out(Path(), names, "validation", 0.1)}
    more = [*names, *(f"new{k}.jpg" for k in range(100))]
    now = {more[i] for i in held_out(Path(), more, "validation", 0.1)}
    assert len(few) == 100 and len(now) == 110 and len(few & now) > 85
    assert set(held_out(Path(), names, "train", 0.1)) == set(range(1000)) - set(
        held_out(Path(), names, "validation", 0.1)
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_data_root_is_reported_in_one_line(name: str, tmp_path: Path) -> None:
    options = {"num_classes": 3} if name == "imagenet" else DEFAULTS.get(name, {})
    (tmp_path / "file").write_text("")
    (tmp_path / "other" / "docs").mkdir(parents=True)
    (tmp_path / "other" / "a.txt").write_text("")
    for root, words in (
        (None, r"data\.root is not set"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "other", r"other holds no .*it holds the folders docs, 1 x \.txt: change data"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            LAYOUTS[name]("train", root, **options)
        assert "\n" not in str(caught.value)


def test_class_count_other_than_configured_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.num_classes=1000, .*holds 3 classes"):
        ImageNet("train", root / "imagenet_folders")
    with pytest.raises(UserError, match=r"set data\.num_classes=2"):
        ImageFolder("train", root / "image_folder_classes", class_folders=True, num_classes=5)
    with pytest.raises(UserError, match=r"data\.class_folders=false"):
        ImageFolder("train", root / "celebahq_jpg", class_folders=True)


def test_imagenet_kaggle_form_without_its_table_says_what_to_add(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "ILSVRC").symlink_to(root / "imagenet_kaggle" / "ILSVRC")
    with pytest.raises(UserError, match=r"put LOC_val_solution\.csv"):
        ImageNet("validation", tmp_path, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,words\n", "holds no rows"),
        ("name,text\na.jpg,b\n", "none of file_name"),
        (None, "cannot be read"),
    ],
)
def test_unusable_caption_table_is_refused(root: Path, tmp_path: Path, text, words: str) -> None:
    (tmp_path / "a").symlink_to(root / "image_folder_plain" / "a")
    if text is not None:
        (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        ImageFolder("train", tmp_path, captions="captions.csv")


def test_missing_captions_are_empty_and_unusual_ones_are_kept(root: Path, tmp_path: Path) -> None:
    image = scenes(1, 16)[0].encoded()
    texts = {"a": b"", "b": b"x" * 100_000, "c": "🏠\0 בית".encode(), "d": b"caf\xe9", "e": None}
    for name, text in texts.items():
        (tmp_path / f"{name}.jpg").write_bytes(image)
        if text is not None:
            (tmp_path / f"{name}.txt").write_bytes(text)
    (tmp_path / "zz.jpg").write_bytes(image)
    listed = tmp_path / "held.list"
    listed.write_text("zz.jpg\n")
    data = ImageFolder("train", tmp_path, captions="txt", validation_list=str(listed))
    assert [data.caption(i) for i in range(5)] == ["", "x" * 100_000, "🏠 בית", "café", ""]


def test_missing_mask_is_named(root: Path, tmp_path: Path) -> None:
    make("landscapes", tmp_path / "l", "grey", 6, 16)
    (tmp_path / "l" / "masks" / "a" / "0000.png").unlink()
    data = ImageFolder("train", tmp_path / "l", "images", "masks", num_mask_labels=182)
    row = next(i for i in range(len(data)) if data.name(i).endswith("a/0000.jpg"))
    with pytest.raises(BrokenFileError, match=r"has no mask: .*masks/a/0000\.png"):
        data.read(row)


def test_make_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="is not overwritten"):
        make("celebahq", tmp_path)
    with pytest.raises(UserError, match="form=tarz"):
        make("imagenet", tmp_path / "x", "tarz")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_tar_with_long_and_unusual_names_is_read_in_place(tmp_path: Path) -> None:
    names = {"../../evil.jpg": b"1", "d/" + "n" * 150 + ".jpg": b"22" * 400, "ü.jpg": b""}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for name, data in names.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        found = {m.name: path.read_bytes()[m.offset : m.offset + m.size] for m in members(path)}
        assert found == names
    assert sorted(p.name for p in tmp_path.parent.rglob("evil*")) == []


@pytest.mark.parametrize("keep", [700, 100, 0])
def test_truncated_tar_is_named(tmp_path: Path, keep: int) -> None:
    image = scenes(1, 64)[0].encoded()
    whole = tar_of({f"00000000{k}.{kind}": image for k in range(4) for kind in ("jpg", "txt")})
    (tmp_path / "00000.tar").write_bytes(whole[:keep])
    with pytest.raises(UserError, match=r"00000\.tar"):
        Shards("train", tmp_path)
    (tmp_path / "00000.tar").write_bytes(whole)
    assert len(Shards("train", tmp_path)) + len(Shards("validation", tmp_path)) == 4


def test_hidden_files_and_mac_leftovers_are_ignored(root: Path, tmp_path: Path) -> None:
    for name in (".hidden.jpg", "__MACOSX/a.jpg", "Thumbs.db", "b.JPG", "c.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(scenes(1, 16)[0].encoded())
    both = [ImageFolder(split, tmp_path) for split in ("train", "validation")]
    assert {Path(data.name(0)).name for data in both} == {"b.JPG", "c.jpeg"}


def test_lone_training_folder_is_no_class(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(root / "image_folder_classes")
    data = ImageFolder("validation", tmp_path, class_folders=True, num_classes=2)
    assert data.classes == ("day", "night") and len(data) == 1


def test_npy_faces_equal_their_arrays(root: Path) -> None:
    data = layout(root, "celebahq", "npy")
    array = np.load(data.name(0))
    assert array.shape == (1, 3, 64, 64)
    assert torch.equal(decode_image(data.read(0).image), torch.from_numpy(array[0]))
    assert isinstance(ImageDataset(data, Transform(32))[0], Batch)


def test_sidecar_masks_are_not_images(root: Path, tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(scenes(1, 16)[0].encoded())
    (tmp_path / "masks").mkdir()
    for k in range(3):
        Image.new("L", (16, 16), k).save(tmp_path / "masks" / f"{k}.png")
    data = ImageFolder("train", tmp_path, masks="masks", num_mask_labels=3)
    assert len(data) == 2


def test_class_has_one_number_in_both_splits(tmp_path: Path) -> None:
    (scene,) = scenes(1, 16)
    for name in ("train/sea/1", "train/boat/2", "train/tree/3", "val/tree/4", "val/sea/5"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scene.encoded("PNG"))
    for split, expected in (("train", [0, 1, 2]), ("validation", [1, 2])):
        data = ImageFolder(split, tmp_path, class_folders=True)
        assert data.classes == ("boat", "sea", "tree")
        assert [data.read(k).label for k in range(len(data))] == expected
