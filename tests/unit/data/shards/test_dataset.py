"""Where shards are: folders, patterns, addresses, and the index that is kept of them."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.data.sharded import EVERY, both, sample, stream, write_tar

from ldmlab.core.errors import UserError
from ldmlab.data.images.dataset import ImageDataset, broken_files
from ldmlab.data.images.transform import Transform
from ldmlab.data.shards.dataset import Shards
from ldmlab.data.shards.locate import find_shards


def test_shard_patterns_expand(root: Path, shards, tmp_path: Path) -> None:
    assert both(shards, f"{root}/{{00000..00003}}.tar") == EVERY
    some = both(shards, f"{root}/0000{{0,3}}.tar")
    assert some == [name for name in EVERY if name[0] in "03"]
    with pytest.warns(UserWarning, match=r"1 of 5 shards.*00004\.tar cannot be opened \(No such"):
        assert both(shards, f"{root}/{{00000..00004}}.tar", max_bad=1) == EVERY
    names = [shard.name for shard in find_shards("/a/{0,1}/{08..10}.tar", tmp_path, 1.0)]
    assert names == [f"/a/{a}/{b}.tar" for a in "01" for b in ("08", "09", "10")]


def test_single_shard_may_be_the_root(root: Path, shards) -> None:
    alone = both(shards, root / "00002.tar")
    assert alone == both(shards, f"file://{root}/00002.tar") == [n for n in EVERY if n[0] == "2"]


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
def test_root_without_shards_is_reported_in_one_line(tmp_path: Path, root, said: str) -> None:
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
def test_remote_shards_equal_local_ones(root: Path, served: str, shards, workers) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reaches http through aiohttp")
    address = f"{served}/{{00000..00003}}.tar"
    far = ImageDataset(shards("train", address), Transform(16))
    assert stream(far, 8, workers) == stream(ImageDataset(shards("train", root), Transform(16)), 8)


def test_fetched_shards_stay_within_the_disk_limit(root: Path, tmp_path: Path) -> None:
    size = max(path.stat().st_size for path in root.glob("*.tar"))
    shards = functools.partial(Shards, cache=tmp_path / "c", cache_gib=2 * size / 2**30, window=6)
    assert both(shards, f"file://{root}") == EVERY
    held = list((tmp_path / "c" / "shards").glob("*.tar"))
    assert held and sum(path.stat().st_size for path in held) <= 2 * size
    for path in held:
        path.unlink()
    (root / "00002.tar").unlink()
    data = ImageDataset(
        shards("train", f"file://{root}/{{00000..00003}}.tar"), Transform(16), max_bad=9
    )
    assert not any(caption.startswith("2") for caption in sum(stream(data, 4), ()))
    assert "file://" in broken_files(data)[0] and list((tmp_path / "c").rglob("*.part")) == []


def test_leftovers_of_killed_fetches_are_counted_and_removed(root: Path, tmp_path) -> None:
    cache, size = tmp_path / "c" / "shards", max(p.stat().st_size for p in root.glob("*.tar"))
    cache.mkdir(parents=True)
    left = cache / ".0.tar.12-ab.part"
    left.write_bytes(bytes(2 * size))
    shards = functools.partial(Shards, cache=tmp_path / "c", cache_gib=4 * size / 2**30, window=6)
    both(shards, f"file://{root}")
    assert left.exists() and sum(p.stat().st_size for p in cache.iterdir()) <= 4 * size
    os.utime(left, (1, 1))
    both(shards, f"file://{root}")
    assert not left.exists()


def test_shard_index_is_rebuilt_only_for_a_changed_shard(root: Path, shards, capsys) -> None:
    shards("train", root)
    assert "indexing shards" in capsys.readouterr().err
    shards("train", root)
    assert capsys.readouterr().err == ""
    write_tar(root / "00001.tar", sample("a", text="new") | sample("b", text="newer"))
    os.utime(root / "00001.tar", ns=(1, 1))
    assert {"new", "newer"} <= set(both(shards, root))


def test_unwritable_shard_index_folder_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache: .*file/index cannot be written"):
        Shards("train", root, cache=tmp_path / "file")
