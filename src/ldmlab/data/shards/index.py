"""Index of img2dataset's tar shards: where each sample lies, kept in a file per shard."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write, write_json
from ldmlab.core.terminal import progress
from ldmlab.data.images.decode import EXTENSIONS, BrokenFileError
from ldmlab.data.shards.filters import FACTS, read_facts
from ldmlab.data.shards.locate import LocalShard, RemoteShard
from ldmlab.data.shards.tar import Member, walk

IMAGE, TEXT, JSON = "image", "text", "json"
_KINDS = {"txt": TEXT, "json": JSON} | {ending[1:]: IMAGE for ending in EXTENSIONS}
_PLACES = [
    field for kind in (IMAGE, TEXT, JSON) for field in ((kind, "<u8"), (f"{kind}_size", "<u4"))
]
ROW = np.dtype([*_PLACES, *FACTS])
"""A sample: where its parts' bytes lie (0: it lacks that part), and what filters ask for."""

_VERSION = 3
_PROCESSES = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """What was found in one shard.

    Attributes:
        rows: Its samples, of type `ROW`.
        damage: What keeps it from being read to its end; None where nothing does.
        skipped: Number of keys without an image, and of images beside a key's first.
    """

    rows: np.ndarray
    damage: str | None = None
    skipped: int = 0


class ShardIndex:
    """The samples of each shard, from a folder that is filled at the first use.

    Processes that start together share the work of `build`: each begins at another shard and
    passes over what others have done. Without it a shard is read when it is first asked for.

    Args:
        shards: Where the shards are.
        folder: Where the index is kept.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(self, shards: Sequence[LocalShard | RemoteShard], folder: Path) -> None:
        self.shards = shards
        self.folder = folder
        # The name of a shard's file changes with the shard, and a shard may change under us.
        self._files = [index_file(folder, shard) for shard in shards]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"data.cache: {folder} cannot be written ({error})") from error

    def key(self, *more: object) -> str:
        """A name for the shards as they are now, and for what else decides on it."""
        return _short_hash("|".join([*map(repr, more), *(path.stem for path in self._files)]))

    def build(self, numbers: Iterable[int]) -> dict[int, str]:
        """Read those of some shards that are not in the index.

        Returns:
            Why shards that cannot be opened, perhaps only today, cannot.
        """
        # One listing: a question for each of many files takes minutes on a networked disk.
        known = {entry.name for entry in os.scandir(self.folder)}
        new = [n for n in numbers if f"{self._files[n].stem}.json" not in known]
        random.Random(os.getpid()).shuffle(new)
        work = [(self.shards[number], self._files[number]) for number in new]
        rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
        hidden = rank > 0 or not new
        remote = any(isinstance(shard, RemoteShard) for shard, _ in work)
        what = "fetching and indexing shards" if remote else "indexing shards"
        with progress(hidden=hidden) as bar:
            found = bar.track(_each(_write, work), len(new), description=what)
            return {n: lost for n, lost in zip(new, found, strict=True) if lost is not None}

    def __getitem__(self, number: int) -> Shard:
        """What was found in one shard.

        Raises:
            BrokenFileError: It is not in the index yet, and cannot be opened.
        """
        path = self._files[number]
        if lost := _write((self.shards[number], path)):
            raise BrokenFileError(f"is out of reach: {lost}")
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Shard(np.load(path, allow_pickle=False), **told)


def _write(work: tuple[LocalShard | RemoteShard, Path]) -> str | None:
    """Read a shard, unless another process has, and keep what was found in a file.

    A shard that cannot be opened, perhaps only today, is not kept: the reason comes back.
    """
    shard, path = work
    if path.with_suffix(".json").exists():
        return None
    try:
        descriptor = shard.open()
    except OSError as error:
        return f"{shard.name} cannot be opened ({error.strerror})"
    with os.fdopen(descriptor, "rb") as file:
        found = read_shard(file, shard.name)
    with atomic_write(path) as out:
        np.save(out, found.rows)
    # Last: a shard is in the index when this file is.
    told = {"damage": found.damage, "skipped": found.skipped}
    write_json(path.with_suffix(".json"), told)
    return None


def read_shard(file: BinaryIO, name: str) -> Shard:
    """The samples of a shard, as far as it can be read.

    Args:
        file: The shard.
        name: What the user calls it.
    """
    keys: dict[str, list[dict[str, Member]]] = {}
    damage = None
    try:
        for member in walk(file, name, 0, os.fstat(file.fileno()).st_size):
            folder, _, base = member.name.rpartition("/")
            stem, _, extension = base.partition(".")
            extension = extension.lower()
            if extension in _KINDS and member.size < 2**32:
                samples = keys.setdefault(f"{folder}/{stem}", [])
                if not samples or extension in samples[-1]:
                    samples.append({})  # a key that comes again is another sample's
                samples[-1][extension] = member
            elif stem and _KINDS.get(extension.rpartition(".")[2]) == IMAGE:
                keys.setdefault(f"{folder}/{stem}", [{}])  # an image, but not the key's
    except UserError as error:
        damage = str(error)
    except OSError as error:
        damage = f"{name} cannot be read ({error.strerror})"
    every = [_by_kind(parts) for samples in keys.values() for parts in samples]
    found = [parts for parts, _ in every if IMAGE in parts]
    rows = np.zeros(len(found), ROW)
    for row, parts in zip(rows, found, strict=True):
        for kind, member in parts.items():
            row[kind], row[f"{kind}_size"] = member.offset, member.size
        read_facts(row, _bytes(file, parts.get(JSON)), _bytes(file, parts.get(TEXT)))
    more = sum(count for _, count in every)
    return Shard(rows, damage, len(every) - len(found) + more)


def _by_kind(parts: Mapping[str, Member]) -> tuple[dict[str, Member], int]:
    """The members of a sample by what they are, and how many images beside its first one."""
    found: dict[str, Member] = {}
    more = 0
    for extension, member in parts.items():
        kind = _KINDS[extension]
        more += kind in found
        found.setdefault(kind, member)
    return found, more


def index_file(folder: Path, shard: LocalShard | RemoteShard) -> Path:
    """The file of a shard's rows; another one once the shard has changed."""
    return folder / f"{_short_hash(f'{_VERSION}|{shard.name}|{shard.stamp()}')}.npy"


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _each(work: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
    """The results for each item in order, by several processes where there are."""
    workers = min(_PROCESSES, os.cpu_count() or 1, len(items))
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(work, items)


def _bytes(file: BinaryIO, member: Member | None) -> bytes | None:
    if member is None:
        return None
    file.seek(member.offset)
    return file.read(member.size)
