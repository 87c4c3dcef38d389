"""Every way in which shards are broken: what is left is trained on, the rest is named."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from tests.unit.data.sharded import EVERY, JPEG, both, sample, stream, write_tar

from ldmlab.core.errors import UserError
from ldmlab.data.images.dataset import ImageDataset, broken_files
from ldmlab.data.images.transform import Transform

HALF = b'{"caption": "sea \\ud83d"}'


@pytest.mark.filterwarnings("ignore:.*shards are damaged")
def test_truncated_shard_gives_its_whole_samples(root: Path, shards) -> None:
    whole = (root / "00002.tar").read_bytes()
    (root / "00002.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"1 of 4 shards are damaged.*00002\.tar is cut short"):
        data = shards("train", root, max_bad=1)
    captions = {data.caption(i) for i in range(len(data))}
    assert {"2-0", "2-1"} <= captions and "2-6" not in captions
    assert broken_files(ImageDataset(data, Transform(16))) == [str(root / "00002.tar")]
    with pytest.raises(UserError, match=r"1 of the 4 shards .* damaged, data\.max_bad=0"):
        shards("train", root)
    (root / "00002.tar").write_bytes(whole)
    assert both(shards, root) == EVERY


@pytest.mark.parametrize("damage", [b"", b"<html>not found</html>" * 99, b"\x1f\x8b" + b"z" * 2048])
def test_shard_that_is_no_tar_is_skipped(root: Path, shards, damage: bytes) -> None:
    (root / "00001.tar").write_bytes(damage)
    with pytest.warns(UserWarning, match=r"00001\.tar is no"):
        assert both(shards, root, max_bad=1) == [name for name in EVERY if name[0] != "1"]


def test_damaged_member_ends_its_shard(root: Path, shards) -> None:
    path = root / "00000.tar"
    whole = bytearray(path.read_bytes())
    at = whole.index(b"000000003.jpg")
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match=r"00000\.tar is no uncompressed tar archive at byte"):
        assert both(shards, root, max_bad=1) == [n for n in EVERY if n not in ("0-3", "0-4")]


def test_vanished_shard_is_replaced_up_to_the_limit(root: Path, shards) -> None:
    data = ImageDataset(shards("train", root, validation_share=1e-9), Transform(16), max_bad=7)
    (root / "00002.tar").unlink()
    seen = sum(stream(data, 4), ())
    assert len(seen) == 16 and not any(caption.startswith("2") for caption in seen)
    assert len(data.bad_samples) in (6, 7) and "00002.tar" in broken_files(data)[0]
    strict = ImageDataset(data.source, Transform(16), max_bad=2)
    with pytest.raises(UserError, match=r"data\.max_bad=2 .*00002\.tar .*\(No such file"):
        stream(strict, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_shard_images_are_replaced_counted_and_named(
    tmp_path: Path, shards, workers: int
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    bad = {"b": b"<html>", "c": b"", "d": JPEG[:200], "e": b"cos\nsystem\n(S'true'\ntR."}
    files = {k: v for key, data in bad.items() for k, v in sample(key, data, text=key).items()}
    for k in range(12):
        files |= sample(f"good{k}", text=f"good{k}")
    write_tar(root / "0.tar", files)
    data = ImageDataset(shards("train", root, validation_share=1e-9), Transform(16), max_bad=9)
    seen = sum(stream(data, 4, workers), ())
    assert len(seen) == 16 and all(caption.startswith("good") for caption in seen)
    names = {Path(name).stem for name in broken_files(data)}
    assert len(names) >= 3 and names <= set(bad) and len(data.bad_samples) == len(names)


@pytest.mark.filterwarnings("ignore:.*keys without an image")
def test_member_names_are_never_paths_and_unknown_members_stay_closed(
    tmp_path: Path, shards
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    ran = tmp_path / "ran"
    pickled = f"cos\nsystem\n(S'touch {ran}'\ntR.".encode()
    files = sample("../../evil", text="up") | sample("/etc/evil", text="absolute")
    files |= sample("n" * 180, text="long") | sample("mond\u00e9 \U0001f3e0", text="letters")
    files |= {"p.jpg": JPEG, "p.pkl": pickled, "p.pyd": pickled, "lone.txt": b"no image", "x": b""}
    files |= {"upper.JPG": JPEG, "upper.TXT": b"upper", "t.seg.png": JPEG}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        write_tar(root / "0.tar", files, form)
        with pytest.warns(UserWarning, match="keys without an image .*: 2 "):
            assert both(shards, root) == ["", "absolute", "letters", "long", "up", "upper"]
        data = ImageDataset(shards("train", root), Transform(16))
        names = [data.source.name(i) for i in range(len(data))]
        assert any("evil" in name for name in names) and all(str(root) in name for name in names)
        assert len(data.__getitems__(list(range(len(data))))) == len(data)
    assert not ran.exists() and not list(tmp_path.rglob("evil*"))


def test_shard_captions_fall_back_to_the_json(tmp_path: Path, shards) -> None:
    root = tmp_path / "r"
    root.mkdir()
    odd = {"list.jpg": JPEG, "list.json": b"[1]", "deep.jpg": JPEG, "deep.json": b"[" * 99_999}
    write_tar(root / "0.tar", sample("a") | sample("b", caption=None) | odd)
    assert both(shards, root) == ["", "", "", "of json"]


def test_lone_surrogate_in_a_shard_caption_is_tolerated(tmp_path: Path, shards) -> None:
    half = {f"{k}.{kind}": v for k in "ab" for kind, v in (("jpg", JPEG), ("json", HALF))}
    write_tar(tmp_path / "0.tar", half)
    assert both(shards, tmp_path / "0.tar") == ["sea ?", "sea ?"]


@pytest.mark.filterwarnings("ignore:.*shards are damaged")
def test_shards_without_images_say_why(tmp_path: Path, shards) -> None:
    (tmp_path / "r").mkdir()
    dotted = {f"img.{k}.jpg": JPEG for k in range(3)}
    write_tar(tmp_path / "r" / "0.tar", dotted)
    with (
        pytest.warns(UserWarning, match="keys without an image .*: 1 "),
        pytest.raises(UserError, match=r"0 images in 1 shards, .*before the first dot"),
    ):
        shards("train", tmp_path / "r")
    with pytest.raises(UserError, match=r"0 images in 2 shards, .*0\.tar cannot be opened"):
        shards("train", f"{tmp_path}/none/{{0..1}}.tar", max_bad=9)


def test_key_that_comes_twice_is_two_samples(tmp_path: Path, shards) -> None:
    one = write_tar(tmp_path / "one.tar", sample("a", text="first") | sample("b", text="second"))
    two = write_tar(tmp_path / "two.tar", sample("a", text="third") | sample("b", text="fourth"))
    joined = tmp_path / "r" / "0.tar"
    joined.parent.mkdir()
    # Two archives by `cat`: each ends in zeros, and both have the keys a and b.
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    assert both(shards, joined) == ["first", "fourth", "second", "third"]
    # And as `tar --append` leaves it: one archive in which a name stands twice.
    with tarfile.open(one, "a") as tar, tarfile.open(two) as more:
        for member in more:
            tar.addfile(member, more.extractfile(member))
    joined.write_bytes(one.read_bytes())
    assert both(shards, joined) == ["first", "fourth", "second", "third"]


def test_linked_members_are_the_files_they_stand_for(tmp_path: Path, shards) -> None:
    path = write_tar(tmp_path / "0.tar", sample("d/a", text="whole"))
    with tarfile.open(path, "a") as tar:
        for name, kind, to in (
            ("d/b.jpg", tarfile.LNKTYPE, "d/a.jpg"),
            ("d/c.jpg", tarfile.SYMTYPE, "../d/a.jpg"),
            ("d/e.jpg", tarfile.SYMTYPE, "/nowhere.jpg"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, to
            tar.addfile(link)
    sources = [shards(split, path) for split in ("train", "validation")]
    files = [source.read(i).image for source in sources for i in range(len(source))]
    assert sorted(files) == [b"", JPEG, JPEG, JPEG]  # the empty one is a broken file, by its name


@pytest.mark.filterwarnings("ignore:.*shards are damaged")
def test_shard_of_zeros_is_damaged_and_a_second_image_counted(tmp_path: Path, shards) -> None:
    root = tmp_path / "r"
    root.mkdir()
    (root / "0.tar").write_bytes(b"\0" * 100_000)
    two = sample("a", text="one") | {"a.png": JPEG} | sample("b", text="other")
    write_tar(root / "1.tar", two)
    with pytest.raises(UserError, match=r"0\.tar is no tar archive: it holds nothing but zeros"):
        shards("train", root)
    with pytest.warns(UserWarning, match=r"or images beside a key's first: 1 "):
        assert both(shards, root, max_bad=1) == ["one", "other"]
