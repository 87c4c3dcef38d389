"""LAION as img2dataset stores it: tar shards in which a key names image, caption and metadata."""

from __future__ import annotations

import os
import tempfile
import warnings
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.core.ranges import between, natural, one_of, positive, positive_int
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.source import Sample
from ldmlab.data.sampling.block_shuffle import Blocks
from ldmlab.data.shards.counts import Counts, count_shards
from ldmlab.data.shards.filters import Filters, caption_of
from ldmlab.data.shards.index import IMAGE, JSON, ROW, TEXT, ShardIndex
from ldmlab.data.shards.locate import ShardFiles, find_shards
from ldmlab.data.shards.tar import BLOCK, name_in
from ldmlab.data.sources.listing import Split, shown

_REMEMBERED = 64  # shards whose rows are held in memory


class Shards:
    """Images with captions in tar shards, at random access and in constant memory.

    An index tells where each sample lies; it is made once and kept. Rows of an index are held
    for the few shards in use only, so nothing grows with the number of samples. A start reads how
    many samples each shard has, and nothing of the samples.

    Args:
        split: `train` or `validation`.
        root: Folder of the shards, or one of them; or a pattern, `/data/{00000..00099}.tar`; or an
            address that fsspec knows, such as `s3://bucket/{00000..00099}.tar`.
        validation_share: Part of the samples that is held out: whole shards as far as it goes,
            so that validation reads few of them.
        filters: Which samples are wanted; all by default.
        window: Samples that training shuffles among each other, about: their shards are read at
            the same time.
        cache: Folder of the index, and of shards fetched from an address.
        cache_gib: What fetched shards may take, in gibibytes.
        max_bad: How many damaged shards to bear.

    Raises:
        UserError: There are no samples, or too many shards are damaged.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        split: Split,
        root: str | os.PathLike[str] | None = None,
        validation_share: float = 0.001,
        filters: Filters | None = None,
        window: int = 65_536,
        cache: str | os.PathLike[str] | None = None,
        cache_gib: float = 100.0,
        max_bad: int = 0,
    ) -> None:
        one_of(Split)(split=split)
        between(0, 1)(validation_share=validation_share)
        positive_int(window=window)
        positive(cache_gib=cache_gib)
        natural(max_bad=max_bad)
        self.root = "" if root is None else os.fspath(root)
        cache = Path(cache or Path(tempfile.gettempdir()) / f"ldmlab-shards-{os.getuid()}")
        shards = find_shards(self.root or None, cache.expanduser(), cache_gib)
        self._filters = filters or Filters()
        self._files = ShardFiles(shards)
        self._index = ShardIndex(shards, cache.expanduser() / "index")
        found = count_shards(self._index, self._filters)
        self._counts = counts = np.array(found.wanted, np.int64)
        self.damaged = {shards[number].name: why for number, why in sorted(found.damaged.items())}
        self._warn(found)
        if len(self.damaged) > max_bad:
            raise UserError(
                f"{len(self.damaged)} of the {len(shards)} shards of data.root={self.root} are "
                f"damaged, data.max_bad={max_bad} are allowed; the first: "
                f"{next(iter(self.damaged.values()))}"
            )
        if found.total < 2:
            first = next(iter(self.damaged.values()), "a key is what stands before the first dot")
            raise UserError(
                f"data.root={self.root} has {found.total} images in {len(shards)} shards, and 2 "
                f"are needed at least ({first}): change data.root"
            )
        if counts.sum() < 2:
            raise UserError(
                f"data.root={self.root} has {found.total} images in {len(shards)} shards, and "
                f"{counts.sum()} of them pass the filters (data.min_side, ...): 2 are needed"
            )
        self._held = held_out_rows([shard.name for shard in shards], counts, validation_share)
        self._validation = split == "validation"
        self.blocks = Blocks(self._held if self._validation else counts - self._held, window)
        self._ends = np.cumsum(self.blocks.sizes).tolist()
        self._rows: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1]

    def name(self, index: int) -> str:
        """Shard and key; the key is a label only, whatever path it spells."""
        shard = self._files.shards[bisect_right(self._ends, index)].name
        try:
            number, row = self._place(index)
            return shown(f"{shard}/{name_in(self._files.read(number, row[IMAGE] - BLOCK, BLOCK))}")
        except BrokenFileError:
            return shown(f"{shard} (sample {index} of the split)")

    def read(self, index: int) -> Sample:
        """Image and caption.

        Raises:
            BrokenFileError: The shard is gone, has changed since it was indexed, or has fewer
                samples than its statistics tell.
        """
        shard, row = self._place(index)
        image = self._part(shard, row, IMAGE)
        assert image is not None  # or the index would not have it
        return Sample(image, caption=self._caption(shard, row))

    def caption(self, index: int) -> str:
        """The caption; empty where there is none, or no reading it."""
        try:
            return self._caption(*self._place(index))
        except BrokenFileError:
            return ""

    @property
    def identity(self) -> Iterator[str]:
        """Each shard's name without its folder, and its samples: of the filters and the split."""
        for shard, count, size in zip(
            self._files.shards, self._counts.tolist(), self.blocks.sizes.tolist(), strict=True
        ):
            yield f"{_base(shard.name)} {count} {size}"

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_rows": OrderedDict()}

    def _warn(self, found: Counts) -> None:
        if self.damaged:
            warnings.warn(
                f"{len(self.damaged)} of {len(found.wanted)} shards are damaged, and read as far "
                f"as they go; the first: {next(iter(self.damaged.values()))}",
                stacklevel=3,
            )
        if found.skipped:
            warnings.warn(
                f"{self.root}: keys without an image of their own, or images beside a key's "
                f"first: {found.skipped:,} (a key is what stands before the first dot)",
                stacklevel=3,
            )

    def _place(self, index: int) -> tuple[int, dict[str, int]]:
        """A sample's shard and row."""
        shard = bisect_right(self._ends, index)
        rows = self._rows.get(shard)
        if rows is None:
            rows = self._rows[shard] = self._load(shard)
            if len(self._rows) > _REMEMBERED:
                self._rows.popitem(last=False)
        place = int(index) - self._ends[shard] + int(self.blocks.sizes[shard])
        if place >= len(rows):
            raise BrokenFileError("is not there: the shard has fewer samples than was told of it")
        return shard, dict(zip(ROW.names or (), rows[place].item(), strict=True))

    def _load(self, shard: int) -> np.ndarray:
        """The rows of a shard that belong to this split, as far as they are there."""
        rows = self._index[shard].rows
        rows = rows[self._filters(rows)]
        count, held = int(self._counts[shard]), int(self._held[shard])
        chosen = split_rows(self._files.shards[shard].name, count, held)
        places = np.flatnonzero(chosen if self._validation else ~chosen)
        return rows[places[places < len(rows)]]

    def _caption(self, shard: int, row: dict[str, int]) -> str:
        text = self._part(shard, row, TEXT)
        return caption_of(None if text is not None else self._part(shard, row, JSON), text)

    def _part(self, shard: int, row: dict[str, int], kind: str) -> bytes | None:
        offset = row[kind]
        return self._files.read(shard, offset, row[f"{kind}_size"]) if offset else None


def held_out_rows(
    names: Sequence[str], counts: Int[np.ndarray, " shards"], share: float
) -> Int[np.ndarray, " shards"]:
    """How many samples of each shard are held out.

    Shards give all they have in the order of the hash of their names, until there are enough; at
    least one sample is on each side.

    Args:
        names: Of the shards.
        counts: Samples in each.
        share: Part of the samples to hold out.
    """
    total = int(counts.sum())
    left = min(max(1, round(share * total)), total - 1)
    held = np.zeros_like(counts)
    for number in sorted(range(len(names)), key=lambda i: derive_seed("split", _base(names[i]))):
        held[number] = min(left, counts[number])
        left -= int(held[number])
        if not left:
            break
    return held


def split_rows(name: str, count: int, held: int) -> Bool[np.ndarray, " count"]:
    """Which samples of a shard are held out.

    Args:
        name: The shard's.
        count: Its samples.
        held: How many of them to hold out.
    """
    order = np.random.default_rng(derive_seed("split rows", _base(name))).permutation(count)
    chosen = np.zeros(count, bool)
    chosen[order[:held]] = True
    return chosen


def _base(name: str) -> str:
    return name.rpartition("/")[2]
