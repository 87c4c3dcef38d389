"""img2dataset shards: their index, their order, their filters, and every way they are broken."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.batches import StepBatches
from ldmlab.data.faults import Faults
from ldmlab.data.laion import Shards, held_out_rows
from ldmlab.data.memory import Subset
from ldmlab.data.pictures import Pictures, broken_files
from ldmlab.data.shard_facts import Filters
from ldmlab.data.shards import find_shards
from ldmlab.data.specimens.scenes import scenes
from ldmlab.data.view import View
from ldmlab.data.windows import Blocks, WindowedEpoch

PER_SHARD = (5, 1, 7, 4)
JPEG = scenes(1, 16)[0].encoded()
FACTS = {"width": 640, "height": 480, "similarity": 0.3, "NSFW": "UNLIKELY", "caption": "of json"}


def write_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def sample(key: str, image: bytes = JPEG, text: str | None = None, **facts: object):
    files = {f"{key}.jpg": image, f"{key}.json": json.dumps(FACTS | facts).encode()}
    return files if text is None else files | {f"{key}.txt": text.encode()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "laion"
    folder.mkdir()
    for number, count in enumerate(PER_SHARD):
        files: dict[str, bytes] = {}
        for k in range(count):
            files |= sample(f"{number:05d}{k:04d}", text=f"{number}-{k}")
        write_tar(folder / f"{number:05d}.tar", files)
    return folder


@pytest.fixture
def shards(tmp_path: Path):
    return functools.partial(Shards, cache=tmp_path / "cache", window=6)


def both(shards, *arguments, **options) -> list[str]:
    """The captions of both splits."""
    found = []
    for split in ("train", "validation"):
        data = shards(split, *arguments, **options)
        found += [data.caption(i) for i in range(len(data))]
    return sorted(found)


EVERY = sorted(f"{number}-{k}" for number, count in enumerate(PER_SHARD) for k in range(count))


# The order


@pytest.mark.parametrize("sizes", [[4], [3, 0, 5, 1], [1] * 20, [7, 100, 2, 30]])
@pytest.mark.parametrize("window", [1, 6, 1000])
def test_an_epoch_is_a_permutation_that_uses_few_blocks_at_a_time(sizes, window) -> None:
    blocks = Blocks(np.array(sizes), window)
    block = np.repeat(np.arange(len(sizes)), sizes)
    orders = [[WindowedEpoch(blocks, seed)[i] for i in range(sum(sizes))] for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert sum(sizes) < 9 or orders[0] != orders[2]
    for order in orders:
        assert sorted(order) == list(range(sum(sizes)))
        for k in np.unique(block):
            places = np.flatnonzero(block[order] == k)
            # A block is left behind after a window, and a window overshoots by its last block.
            assert places[-1] - places[0] < window + max(sizes)


def test_the_first_samples_keep_their_blocks() -> None:
    blocks = Blocks(np.array([3, 4, 2]), 5)
    assert blocks.first(5).sizes.tolist() == [3, 2, 0]
    assert blocks.first(99).sizes.tolist() == [3, 4, 2]


def test_a_limit_shuffles_what_it_leaves(root: Path, shards) -> None:
    data = Subset(Pictures(shards("train", root), View(16)), 9)
    assert data.blocks is not None and data.blocks.sizes.sum() == 9
    order = islice(StepBatches(9, 3, 0, blocks=data.blocks), 3)
    assert sorted(i for batch in order for i in batch) == list(range(9))


class Ids(torch.utils.data.Dataset[tuple[str, ...]]):
    """The captions of a data set, which name its samples."""

    def __init__(self, data: Pictures) -> None:
        self.data = data

    def __getitems__(self, indices: list[int]) -> tuple[str, ...]:
        batch: Batch = self.data.__getitems__(indices)
        assert batch.image is not None and len(batch.image) == len(indices)
        return batch.caption or ()


def stream(data: Pictures, steps: int, workers: int = 0, start: int = 0, rank: int = 0, world=1):
    """The samples of some steps, as training loads them."""
    batches = StepBatches(len(data), 4, 5, start, rank, world, data.blocks)
    loader = DataLoader(Ids(data), batch_sampler=batches, num_workers=workers, collate_fn=tuple)
    return list(islice(loader, steps))


def test_an_epoch_shows_each_sample_once_with_any_number_of_workers(root: Path, shards) -> None:
    data = Pictures(shards("train", root), View(16))
    assert len(data) == 16
    seen = stream(data, 8)
    assert stream(data, 8, workers=2) == seen
    first, second = [sum(seen[k : k + 4], ()) for k in (0, 4)]
    assert sorted(first) == sorted(second) and len(set(first)) == 16 and first != second


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_within_an_epoch_goes_on_where_it_was(root: Path, shards, workers) -> None:
    data = Pictures(shards("train", root), View(16))
    again = Pictures(shards("train", root), View(16))
    assert stream(again, 4, workers, start=3) == stream(data, 7)[3:]


def _rank(rank: int, root: Path, cache: Path, out: Path) -> None:
    address = f"file://{out}.store"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    data = Pictures(Shards("train", root, cache=cache, window=6), View(16))
    gathered: list = [None, None]
    dist.all_gather_object(gathered, stream(data, 8, rank=rank, world=2))
    if rank == 0:
        out.write_text(json.dumps(gathered))
    dist.destroy_process_group()


def test_two_processes_see_what_one_sees(root: Path, shards, tmp_path: Path) -> None:
    # Both start on an empty index.
    arguments = (root, tmp_path / "fresh", tmp_path / "out.json")
    torch.multiprocessing.start_processes(_rank, arguments, 2, start_method="fork")
    ranks = json.loads((tmp_path / "out.json").read_text())
    assert {len(batch) for steps in ranks for batch in steps} == {2}
    alone = stream(Pictures(shards("train", root), View(16)), 8)
    assert [tuple(a + b) for a, b in zip(*ranks, strict=True)] == alone


# The splits


def test_splits_share_the_samples_out(root: Path, shards) -> None:
    assert both(shards, root) == EVERY
    assert both(shards, root, validation_share=0.5) == EVERY
    assert len(shards("validation", root, validation_share=1e-9)) == 1
    assert len(shards("validation", root, validation_share=0.5)) == 8
    assert len(shards("train", root, validation_share=0.999)) == 1


def test_held_out_samples_lie_in_few_shards() -> None:
    names, counts = [f"/data/{k:05d}.tar" for k in range(100)], np.full(100, 1000)
    held = held_out_rows(names, counts, 0.0213)
    assert held.sum() == 2130 and (held > 0).sum() == 3
    moved = held_out_rows([f"s3://x/{k:05d}.tar" for k in range(100)], counts, 0.0213)
    assert (moved == held).all()


# The filters


@pytest.mark.parametrize(
    ("option", "keys"),
    [
        ({"min_side": 480}, "ab"),
        ({"max_aspect": 2}, "abd"),
        ({"min_similarity": 0.25}, "acd"),
        ({"nsfw": ["UNLIKELY", "UNSURE"]}, "abd"),
        ({"min_caption": 3}, "abc"),
        ({"max_caption": 5}, "ad"),
        ({}, "abcdef"),
    ],
)
def test_filters_go_by_the_json(tmp_path: Path, shards, option, keys) -> None:
    root = tmp_path / "r"
    root.mkdir()
    write_tar(
        root / "0.tar",
        sample("a", text="aaa")
        | sample("b", text="bbbbbb", similarity=0.1, NSFW="UNSURE")
        | sample("c", text="ccccccc", original_width=900, original_height=300, NSFW="NSFW")
        | sample("d", text="d", width=479)
        # Of these two nothing is known, and what is asked for they do not meet.
        | {"e.jpg": JPEG, "e.json": b"{broken", "e.txt": b"e" * 7}
        | {"f.png": JPEG},
    )
    spared = set() if not option else {"e", "f"}
    if "min_caption" in option:
        spared = {"f"}
        keys += "e"
    if "max_caption" in option:
        keys, spared = keys + "f", {"e"}
    data = [shards(split, root, filters=Filters(**option)) for split in ("train", "validation")]
    names = sorted(Path(d.name(i)).stem for d in data for i in range(len(d)))
    assert names == sorted(keys) and not spared & set(names)


def test_filters_that_leave_nothing_are_named(root: Path, shards) -> None:
    with pytest.raises(UserError, match=r"17 images in 4 shards, and 0 of them pass the filters"):
        shards("train", root, filters=Filters(min_side=10_000))
    with pytest.raises(UserError, match=r"data\.nsfw=\['no'\] must be a list of UNLIKELY"):
        Filters(nsfw=["no"])


# What is broken


@pytest.mark.filterwarnings("ignore:.*shards are damaged")
def test_a_shard_cut_short_gives_what_it_has(root: Path, shards) -> None:
    whole = (root / "00002.tar").read_bytes()
    (root / "00002.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"1 of 4 shards are damaged.*00002\.tar is cut short"):
        data = shards("train", root, max_bad=1)
    captions = {data.caption(i) for i in range(len(data))}
    assert {"2-0", "2-1"} <= captions and "2-6" not in captions
    assert broken_files(Pictures(data, View(16))) == [str(root / "00002.tar")]
    with pytest.raises(UserError, match=r"1 of the 4 shards .* damaged, data\.max_bad=0"):
        shards("train", root)
    (root / "00002.tar").write_bytes(whole)
    assert both(shards, root) == EVERY


@pytest.mark.parametrize("damage", [b"", b"<html>not found</html>" * 99, b"\x1f\x8b" + b"z" * 2048])
def test_a_shard_that_is_no_tar_is_passed_over(root: Path, shards, damage: bytes) -> None:
    (root / "00001.tar").write_bytes(damage)
    with pytest.warns(UserWarning, match=r"00001\.tar is no"):
        assert both(shards, root, max_bad=1) == [name for name in EVERY if name[0] != "1"]


def test_a_member_damaged_within_a_shard_ends_it_there(root: Path, shards) -> None:
    path = root / "00000.tar"
    whole = bytearray(path.read_bytes())
    at = whole.index(b"000000003.jpg")
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match=r"00000\.tar is no uncompressed tar archive at byte"):
        assert both(shards, root, max_bad=1) == [n for n in EVERY if n not in ("0-3", "0-4")]


def test_a_shard_that_vanishes_is_replaced_up_to_the_limit(root: Path, shards) -> None:
    data = Pictures(shards("train", root, validation_share=1e-9), View(16), max_bad=7)
    (root / "00002.tar").unlink()
    seen = sum(stream(data, 4), ())
    assert len(seen) == 16 and not any(caption.startswith("2") for caption in seen)
    assert len(data.faults) in (6, 7) and "00002.tar" in broken_files(data)[0]
    strict = Pictures(data.layout, View(16), max_bad=2)
    with pytest.raises(UserError, match=r"data\.max_bad=2 .*00002\.tar .*\(No such file"):
        stream(strict, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_replaced_counted_and_named(tmp_path: Path, shards, workers: int) -> None:
    root = tmp_path / "r"
    root.mkdir()
    bad = {"b": b"<html>", "c": b"", "d": JPEG[:200], "e": b"cos\nsystem\n(S'true'\ntR."}
    files = {k: v for key, data in bad.items() for k, v in sample(key, data, text=key).items()}
    for k in range(12):
        files |= sample(f"good{k}", text=f"good{k}")
    write_tar(root / "0.tar", files)
    data = Pictures(shards("train", root, validation_share=1e-9), View(16), max_bad=9)
    seen = sum(stream(data, 4, workers), ())
    assert len(seen) == 16 and all(caption.startswith("good") for caption in seen)
    names = {Path(name).stem for name in broken_files(data)}
    assert len(names) >= 3 and names <= set(bad) and len(data.faults) == len(names)


@pytest.mark.filterwarnings("ignore:.*keys without an image")
def test_names_are_labels_and_strangers_are_not_opened(tmp_path: Path, shards) -> None:
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
        with pytest.warns(UserWarning, match="keys without an image: 1$"):
            assert both(shards, root) == ["", "absolute", "letters", "long", "up", "upper"]
        data = Pictures(shards("train", root), View(16))
        names = [data.layout.name(i) for i in range(len(data))]
        assert any("evil" in name for name in names) and all(str(root) in name for name in names)
        assert len(data.__getitems__(list(range(len(data))))) == len(data)
    assert not ran.exists() and not list(tmp_path.rglob("evil*"))


def test_captions_without_a_text_file_come_from_the_json(tmp_path: Path, shards) -> None:
    root = tmp_path / "r"
    root.mkdir()
    odd = {"list.jpg": JPEG, "list.json": b"[1]", "deep.jpg": JPEG, "deep.json": b"[" * 99_999}
    write_tar(root / "0.tar", sample("a") | sample("b", caption=None) | odd)
    assert both(shards, root) == ["", "", "", "of json"]


def test_faults_are_remembered_in_little_memory() -> None:
    faults = Faults(10**12, 3, "here")
    for index in (10**12 - 1, 7, 7, 7 + 1032):
        faults.add(index, "x")
    assert faults.indices() == [7, 1039, 10**12 - 1] and len(faults) == 3
    assert 7 in faults and 8 not in faults
    with pytest.raises(UserError, match=r"4 samples in here cannot be read, data\.max_bad=3"):
        faults.add(8, "x")


# Where shards are


def test_patterns_name_shards(root: Path, shards, tmp_path: Path) -> None:
    assert both(shards, f"{root}/{{00000..00003}}.tar") == EVERY
    some = both(shards, f"{root}/0000{{0,3}}.tar")
    assert some == [name for name in EVERY if name[0] in "03"]
    with pytest.warns(UserWarning, match=r"1 of 5 shards.*00004\.tar cannot be opened \(No such"):
        assert both(shards, f"{root}/{{00000..00004}}.tar", max_bad=1) == EVERY
    names = [shard.name for shard in find_shards("/a/{0,1}/{08..10}.tar", tmp_path, 1.0)]
    assert names == [f"/a/{a}/{b}.tar" for a in "01" for b in ("08", "09", "10")]


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("pipe:touch {ran}", "is a command, and none is run"),
        ("nosuch://bucket/{00..01}.tar", "Protocol not known: nosuch"),
        ("/a/{5..1}.tar", "must rise"),
        ("/a/{x}.tar", "must be like"),
        (None, r"data\.root is not set"),
        ("/nowhere", "does not exist"),
    ],
)
def test_what_is_no_place_of_shards_is_one_line(tmp_path: Path, root, said: str) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(UserError, match=said) as raised:
        Shards("train", root and root.replace("{ran}", str(ran)), cache=tmp_path)
    assert "\n" not in str(raised.value) and not ran.exists()


@pytest.fixture
def served(root: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    make = functools.partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_at_an_address_are_the_same_data(root: Path, served: str, shards, workers) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reaches http through aiohttp")
    address = f"{served}/{{00000..00003}}.tar"
    far = Pictures(shards("train", address), View(16))
    assert stream(far, 8, workers) == stream(Pictures(shards("train", root), View(16)), 8)


def test_fetched_shards_take_no_more_than_they_may(root: Path, tmp_path: Path) -> None:
    size = max(path.stat().st_size for path in root.glob("*.tar"))
    shards = functools.partial(Shards, cache=tmp_path / "c", cache_gib=2 * size / 2**30, window=6)
    assert both(shards, f"file://{root}") == EVERY
    held = list((tmp_path / "c" / "shards").glob("*.tar"))
    assert held and sum(path.stat().st_size for path in held) <= 2 * size
    for path in held:
        path.unlink()
    (root / "00002.tar").unlink()
    data = Pictures(shards("train", f"file://{root}/{{00000..00003}}.tar"), View(16), max_bad=9)
    assert not any(caption.startswith("2") for caption in sum(stream(data, 4), ()))
    assert "file://" in broken_files(data)[0] and list((tmp_path / "c").rglob("*.part")) == []


def test_the_index_is_made_once_and_again_for_a_changed_shard(root: Path, shards, capsys) -> None:
    shards("train", root)
    assert "indexing shards" in capsys.readouterr().err
    shards("train", root)
    assert capsys.readouterr().err == ""
    write_tar(root / "00001.tar", sample("a", text="new") | sample("b", text="newer"))
    os.utime(root / "00001.tar", ns=(1, 1))
    assert {"new", "newer"} <= set(both(shards, root))


def test_a_folder_that_cannot_hold_the_index_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache: .*file/index cannot be written"):
        Shards("train", root, cache=tmp_path / "file")
