"""Four shards of different sizes, for the tests of streaming."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from tests.unit.data.sharded import PER_SHARD, sample, write_tar

from ldmlab.data.shards.dataset import Shards


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
