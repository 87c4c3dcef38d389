"""Sample counts of shards: made once for each set of shards and filters."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from ldmlab.core.files import write_json
from ldmlab.data.shards.filters import Filters
from ldmlab.data.shards.index import ShardIndex
from ldmlab.data.shards.locate import RemoteShard

_THREADS = 32


@dataclass(frozen=True)
class Counts:
    """What a start has to know of its shards.

    Attributes:
        wanted: Samples of each shard that pass the filters.
        total: Samples in all.
        skipped: Keys without an image, and images beside a key's first, in all.
        damaged: What keeps shards from being read to their end, by their positions.
    """

    wanted: list[int]
    total: int
    skipped: int = 0
    damaged: dict[int, str] = field(default_factory=dict)


def count_shards(index: ShardIndex, filters: Filters) -> Counts:
    """The counts of a set of shards, which later starts take as they are.

    A remote shard is not read for it where nothing is filtered and img2dataset's `_stats.json`
    tells its count.

    Args:
        index: The shards.
        filters: Which samples are wanted.

    Raises:
        UserError: The folder of the index cannot be written, or the store not be reached.
    """
    told: list[int | None] = [None] * len(index.shards)
    remote = [shard for shard in index.shards if isinstance(shard, RemoteShard)]
    if remote and filters == Filters():
        told = _told(index, remote)
    lost = index.build([number for number, count in enumerate(told) if count is None])
    path = index.folder / f"counts-{index.key(filters, sorted(lost))}.json"
    if path.exists():
        table = json.loads(path.read_text(encoding="utf-8"))
        damaged = {int(number): why for number, why in table.pop("damaged").items()}
        counts = Counts(**table, damaged=damaged)
    else:
        counts = _counted(index, told, lost, filters)
        write_json(path, asdict(counts))
    return Counts(counts.wanted, counts.total, counts.skipped, counts.damaged | lost)


def _counted(
    index: ShardIndex, told: Sequence[int | None], lost: Collection[int], filters: Filters
) -> Counts:
    wanted = [count or 0 for count in told]
    total, skipped, damaged = sum(wanted), 0, {}
    for number, count in enumerate(told):
        if count is not None or number in lost:
            continue
        shard = index[number]
        wanted[number] = int(filters(shard.rows).sum())
        total += len(shard.rows)
        skipped += shard.skipped
        if shard.damage is not None:
            damaged[number] = shard.damage
    return Counts(wanted, total, skipped, damaged)


def _told(index: ShardIndex, shards: Sequence[RemoteShard]) -> list[int | None]:
    """What shards' statistics tell, which a store hands out for little; None where it has none.

    The answer is kept, the lack of one too: statistics that come to lie there later would give
    every sample another place, in the middle of a training.
    """
    path = index.folder / f"told-{index.key()}.json"
    if path.exists():
        kept: list[int | None] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    told = [_successes(shards[0])]
    if told[0] is None:  # nor ask for thousands that are not there
        told *= len(shards)
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            told += pool.map(_successes, shards[1:])
    write_json(path, told)
    return told


def _successes(shard: RemoteShard) -> int | None:
    data = shard.statistics()
    try:
        return None if data is None else int(json.loads(data)["successes"])
    except (ValueError, TypeError, KeyError):
        return None
