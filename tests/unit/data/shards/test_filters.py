"""Which samples are wanted, by what the json tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.data.sharded import JPEG, sample, write_tar

from ldmlab.core.errors import UserError
from ldmlab.data.shards.filters import Filters


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
def test_shard_filters_use_the_json(tmp_path: Path, shards, option, keys) -> None:
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


def test_shard_filters_that_leave_nothing_are_named(root: Path, shards) -> None:
    with pytest.raises(UserError, match=r"17 images in 4 shards, and 0 of them pass the filters"):
        shards("train", root, filters=Filters(min_side=10_000))
