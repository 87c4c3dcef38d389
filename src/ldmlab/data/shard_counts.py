"""How many wanted samples each shard has: counted once for each set of shards and filters."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.files import write_json
from ldmlab.data.shard_facts import Filters
from ldmlab.data.shard_index import ShardIndex
from ldmlab.data.shards import LocalShard, RemoteShard

_THREADS = 32


@dataclass(frozen=True)
class Counts:
    """What a start has to know of its shards.

    Attributes:
        wanted: Samples of each shard that pass the filters.
        total: Samples in all.
        skipped: Keys without an image, in all.
        damaged: What keeps shards from being read to their end, by their positions.
    """

    wanted: list[int]
    total: int
    skipped: int = 0
    damaged: dict[int, str] = field(default_factory=dict)


def count_shards(index: ShardIndex, filters: Filters) -> Counts:
    """The counts of a set of shards.

    Remote shards are not read for it where nothing is filtered and img2dataset's `_stats.json` of
    each tells. A start takes what an earlier one has found, so that every start and every process
    has the same order of samples, even when files come to lie there later.

    Args:
        index: The shards.
        filters: Which samples are wanted.

    Raises:
        UserError: The folder of the index cannot be written, or the store not be reached.
    """
    told = index.folder / f"told-{index.key()}.json"
    if filters == Filters() and (counts := _read(told) or _told(index.shards)) is not None:
        _write(told, counts)
        return counts
    lost = index.build()
    path = index.folder / f"counts-{index.key(filters, sorted(lost))}.json"
    counts = _read(path)
    if counts is None:
        counts = _counted(index, lost, filters)
        _write(path, counts)
    return Counts(counts.wanted, counts.total, counts.skipped, counts.damaged | lost)


def _counted(index: ShardIndex, lost: Collection[int], filters: Filters) -> Counts:
    wanted, total, skipped = [0] * len(index.shards), 0, 0
    damaged = {}
    for number in sorted(set(range(len(wanted))).difference(lost)):
        shard = index[number]
        wanted[number] = int(filters(shard.rows).sum())
        total += len(shard.rows)
        skipped += shard.skipped
        if shard.damage is not None:
            damaged[number] = shard.damage
    return Counts(wanted, total, skipped, damaged)


def _told(shards: Sequence[LocalShard | RemoteShard]) -> Counts | None:
    """What the shards' statistics tell, which a store hands out for little; None without them."""
    if _successes(shards[0]) is None:  # nor ask for thousands that are not there
        return None
    with ThreadPoolExecutor(_THREADS) as pool:
        told = list(pool.map(_successes, shards))
    wanted = [count for count in told if count is not None]
    return Counts(wanted, sum(wanted)) if len(wanted) == len(shards) else None


def _successes(shard: LocalShard | RemoteShard) -> int | None:
    data = shard.statistics()
    try:
        return None if data is None else int(json.loads(data)["successes"])
    except (ValueError, TypeError, KeyError):
        return None


def _read(path: Path) -> Counts | None:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Counts(**table | {"damaged": {int(k): why for k, why in table["damaged"].items()}})


def _write(path: Path, counts: Counts) -> None:
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.cache: {path.parent} cannot be written ({error})") from error
    write_json(path, asdict(counts))
