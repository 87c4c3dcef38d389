"""What a start asks of its shards: counts that are kept, and little of a remote store."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.unit.data.sharded import EVERY, PER_SHARD, both, stream

from ldmlab.core.errors import UserError
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.source import identity_of
from ldmlab.data.images.transform import Transform
from ldmlab.data.shards.dataset import Shards
from ldmlab.data.shards.filters import Filters

FAR = "memory://bucket/{00000..00003}.tar"


@pytest.fixture
def far(root: Path, monkeypatch) -> dict[str, int]:
    """The shards on a store, and how many bytes of which files were asked of it."""
    store = fsspec.filesystem("memory")
    for path in root.glob("*.tar"):
        store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    asked: dict[str, int] = {}

    def counting(method):
        def call(self, path: str, *more, **options):
            name = path.rpartition("/")[2]
            asked[name] = asked.get(name, 0) + self.size(path)
            return method(self, path, *more, **options)

        return call

    for name in ("cat_file", "get_file"):
        monkeypatch.setattr(MemoryFileSystem, name, counting(getattr(MemoryFileSystem, name)))
    # Fetched by other processes, bytes would be counted there.
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    yield asked
    store.rm("/bucket", recursive=True)


def tell(**changed: int) -> None:
    for number, count in enumerate(PER_SHARD):
        told = {"count": count + 2, "successes": changed.get(f"of_{number}", count)}
        fsspec.filesystem("memory").pipe_file(
            f"/bucket/{number:05d}_stats.json", json.dumps(told).encode()
        )


def test_second_start_reads_no_statistics_rows(root: Path, shards, monkeypatch) -> None:
    filters = Filters(min_side=100)
    before = both(shards, root, filters=filters)
    loaded: list[object] = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    data = shards("train", root, filters=filters)
    shards("validation", root, filters=filters)
    assert not loaded and len(data) == len(EVERY) - 1
    assert both(shards, root, filters=filters) == before and loaded
    assert len(shards("train", root, filters=Filters(min_caption=3))) == len(data)
    with pytest.raises(UserError, match="pass the filters"):
        shards("train", root, filters=Filters(min_caption=4))


def test_unreachable_shard_is_counted_once_it_is_back(root: Path, shards) -> None:
    pattern, path = f"{root}/{{00000..00003}}.tar", root / "00002.tar"
    path.rename(root / "away")
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 4 shards are damaged"):
            assert len(both(shards, pattern, max_bad=1)) == 10
    (root / "away").rename(path)
    assert both(shards, pattern) == EVERY


def test_shard_identity_needs_no_reading_and_survives_a_move(
    root: Path, shards, monkeypatch
) -> None:
    data = shards("train", root)
    lines = [list(identity_of(data, len(data))), list(identity_of(shards("validation", root), 1))]
    assert lines[0] != lines[1] and len(lines[0]) == len(PER_SHARD)
    moved = root.rename(root.with_name("moved"))
    again = shards("train", moved)
    monkeypatch.setattr(again._files, "read", None)
    assert list(identity_of(again, len(again))) == lines[0]
    (moved / "00001.tar").unlink()
    assert list(identity_of(shards("train", moved), 1)) != lines[0]


def test_remote_store_reads_counts_first_and_shards_on_demand(
    root: Path, shards, far: dict[str, int], tmp_path: Path
) -> None:
    tell()
    data = shards("train", FAR)
    assert sorted(far) == [f"{number:05d}_stats.json" for number in range(4)]
    far.clear()
    assert len(shards("train", FAR)) == len(data) and not far  # the answer was kept
    here = shards("train", root)
    assert list(identity_of(data, 1)) == list(identity_of(here, 1))
    assert data.caption(0) == here.caption(0)
    first = next(path for path in sorted(root.glob("*.tar")) if path.name in far)
    assert far == {first.name: first.stat().st_size}
    steps = stream(ImageDataset(data, Transform(16)), 8)
    assert steps == stream(ImageDataset(here, Transform(16)), 8)
    assert all(far[path.name] == path.stat().st_size for path in root.glob("*.tar"))
    fresh = ImageDataset(Shards("train", FAR, cache=tmp_path / "other", window=6), Transform(16))
    assert stream(fresh, 4, start=3) == steps[3:7]


def test_wrong_shard_statistics_do_not_change_the_order(
    root: Path, shards, far: dict[str, int]
) -> None:
    tell(of_0=7, of_2=6)
    data = ImageDataset(shards("train", FAR, validation_share=1e-9), Transform(16), max_bad=3)
    seen = sum(stream(data, 4), ())
    assert len(data) == sum(PER_SHARD) and set(seen) < set(EVERY)
    assert len(data.bad_samples) in (1, 2)
    name = data.source.name(data.bad_samples.indices()[0])
    assert name.startswith("memory://bucket/00000.tar (sample ")


def test_missing_shards_of_a_pattern_leave_the_others_unread(shards, far) -> None:
    tell()
    store = fsspec.filesystem("memory")
    for name in ("00001.tar", "00001_stats.json", "00002_stats.json"):
        store.rm_file(f"/bucket/{name}")
    with pytest.warns(
        UserWarning, match=r"1 of 4 shards .*00001\.tar cannot be opened \(is not th"
    ):
        data = shards("train", FAR, max_bad=1)
    assert {name for name in far if name.endswith(".tar")} == {"00002.tar"}
    assert data.blocks.sizes.sum() == len(EVERY) - PER_SHARD[1] - 1


def test_without_statistics_or_with_filters_shards_are_read_once(shards, far) -> None:
    assert both(shards, FAR) == EVERY
    whole = {name: count for name, count in far.items() if name.endswith(".tar")}
    assert len(whole) == 4
    tell()
    assert both(shards, FAR) == EVERY  # and the order stays
    assert both(shards, FAR, filters=Filters(min_side=100)) == EVERY
    assert {name: count for name, count in far.items() if name.endswith(".tar")} == whole
