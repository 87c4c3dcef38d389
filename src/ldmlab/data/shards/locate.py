"""Locates shards: a folder, a pattern such as {00000..00099}.tar, or either on a remote store."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_path, sweep_partial
from ldmlab.core.locks import locked
from ldmlab.data.shards.tar import Archives
from ldmlab.data.sources.listing import existing_root, files_below, nothing_found

WANTED = "img2dataset shards (00000.tar, ... of key.jpg, key.txt, key.json)"
_ENDING = ".tar"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 10_000_000
_ATTEMPTS = 3
T = TypeVar("T")


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine's file system.

    Attributes:
        path: Its file.
    """

    path: Path

    @property
    def name(self) -> str:
        """What the user calls it."""
        return str(self.path)

    def stamp(self) -> str:
        """Another text when the file is another; empty where there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return ""
        return f"{status.st_size}-{status.st_mtime_ns}"

    def open(self) -> int:
        """A descriptor to read from.

        Raises:
            OSError: It is missing or cannot be read.
        """
        return os.open(self.path, os.O_RDONLY)


@dataclass(frozen=True)
class RemoteShard:
    """A shard on a store that fsspec reaches, brought here whole when it is first read.

    Attributes:
        name: Its address.
        folder: Where fetched shards lie, shared by all processes of a machine.
        limit: Bytes they may take; those that were not read for longest go first.
    """

    name: str
    folder: Path
    limit: int

    @property
    def path(self) -> Path:
        """Its file here, while it is here."""
        return self.folder / (hashlib.blake2b(self.name.encode()).hexdigest()[:32] + _ENDING)

    def stamp(self) -> str:
        """A remote shard is taken never to change under its name: asking costs a round trip."""
        return "remote"

    def statistics(self) -> bytes | None:
        """What img2dataset wrote beside it; None where there is nothing to be had.

        Raises:
            UserError: The store does not answer.
        """
        address = self.name.removesuffix(_ENDING) + "_stats.json"
        system, path = _file_system(address)
        try:
            data: bytes = _persistently(lambda: system.cat_file(path))
        except (FileNotFoundError, PermissionError):
            return None
        except OSError as error:
            # Not None: another process may have had an answer, and would count otherwise.
            raise UserError(f"{address} {error.strerror}: try again") from error
        return data

    def open(self) -> int:
        """A descriptor to read from, once the shard is here.

        Raises:
            OSError: It cannot be fetched.
        """
        for _ in range(_ATTEMPTS):
            with locked(self.path.with_name(f".{self.path.name}.lock")):
                if not self.path.exists():
                    self._fetch()
                with suppress(FileNotFoundError):  # another process made room at once
                    os.utime(self.path)
                    return os.open(self.path, os.O_RDONLY)
        raise OSError(errno.EIO, "data.cache_gib is too small for the shards in use")

    def _fetch(self) -> None:
        system, path = _file_system(self.name)
        try:
            with atomic_path(self.path) as partial:
                _persistently(lambda: system.get_file(path, str(partial)))
                self._make_room()
        except FileNotFoundError as error:
            raise OSError(errno.ENOENT, "is not there") from error
        except PermissionError as error:
            raise OSError(errno.EACCES, "may not be read") from error

    def _make_room(self) -> None:
        """Remove whole shards until they and those that are on their way take no more than `limit`.

        The one that is fetched is among the latter.
        """
        whole, total = [], 0
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except OSError:  # another process made room
                continue
            total += status.st_size
            if path.suffix == _ENDING:
                whole.append((status.st_mtime, status.st_size, path))
        for _, size, path in sorted(whole):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)  # who has it open keeps it
            total -= size


class ShardFiles(Archives):
    """The bytes of shards, wherever they are.

    Args:
        shards: Where they are.
    """

    def __init__(self, shards: Sequence[LocalShard | RemoteShard]) -> None:
        super().__init__([shard.path for shard in shards])
        self.shards = shards

    def open(self, archive: int) -> int:
        """A descriptor of one shard, fetched where it has to be."""
        return self.shards[archive].open()


def find_shards(root: str | None, cache: Path, cache_gib: float) -> list[LocalShard | RemoteShard]:
    """The shards that a user's `data.root` names, in order.

    Args:
        root: A folder, a shard, or a path with braces, on this machine or as `<protocol>://...`.
        cache: Where remote shards may be kept.
        cache_gib: Gibibytes they may take.

    Raises:
        UserError: It names none, or is no place that shards are read from.
    """
    text = "" if root is None else os.fspath(root)
    if text.startswith("pipe:"):
        raise UserError(f"data.root={text} is a command, and none is run: name a folder or address")
    if "://" in text:
        return _remote(text, cache / "shards", int(cache_gib * 2**30))
    if _BRACES.search(text) and not Path(text).exists():
        return [LocalShard(Path(name).expanduser()) for name in _expand(text)]
    path = Path(text).expanduser()
    if path.suffix.lower() == _ENDING and path.is_file():
        return [LocalShard(path)]
    folder = existing_root(root, WANTED)
    names = files_below(folder, {_ENDING})
    if not names:
        raise nothing_found(folder, WANTED, "change data.root")
    return [LocalShard(folder / name) for name in names]


def _remote(text: str, folder: Path, limit: int) -> list[LocalShard | RemoteShard]:
    if _BRACES.search(text):
        names = _expand(text)
    elif text.endswith(_ENDING):
        names = [text]
    else:
        system, path = _file_system(text)
        try:
            found = sorted(system.find(path))
        except Exception as error:
            raise UserError(
                f"data.root={text} cannot be listed ({_words(error)}): name its shards as "
                f"{text.rstrip('/')}/{{00000..00099}}.tar"
            ) from error
        names = [system.unstrip_protocol(name) for name in found if name.endswith(_ENDING)]
    if not names:
        raise UserError(f"data.root={text} holds no {WANTED}: change data.root")
    _file_system(names[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partial(folder)
    except OSError as error:
        raise UserError(f"data.cache: {folder} cannot be made ({error.strerror})") from error
    return [RemoteShard(name, folder, limit) for name in names]


def _file_system(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:  # an unknown protocol, or one without its package
        raise UserError(f"data.root={address}: {' '.join(str(error).split())}") from error


def _persistently(ask: Callable[[], T]) -> T:
    """What a store answers, asked again where it fails; OSError in one line where it goes on."""
    for attempt in range(_ATTEMPTS):
        try:
            return ask()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # every store has exceptions of its own
            if attempt + 1 == _ATTEMPTS:
                raise OSError(errno.EIO, f"cannot be fetched: {_words(error)}") from error
            time.sleep(2.0**attempt)
    raise AssertionError("there is at least one attempt")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _expand(pattern: str) -> list[str]:
    """{00..12} and {a,b}, at any number of places."""
    names = [pattern]
    while match := _BRACES.search(names[0]):
        choices = _choices(pattern, match.group(1))
        if len(names) * len(choices) > _MOST:
            raise UserError(f"data.root={pattern} names more than {_MOST:,} shards")
        spans = [(name, _BRACES.search(name)) for name in names]
        names = [
            name[: found.start()] + choice + name[found.end() :]
            for name, found in spans
            if found is not None
            for choice in choices
        ]
    return names


def _choices(pattern: str, inside: str) -> list[str]:
    if span := _RANGE.fullmatch(inside):
        first, last = int(span[1]), int(span[2])
        if not first <= last < first + _MOST:
            raise UserError(f"data.root={pattern}: {{{inside}}} must rise, by {_MOST:,} at most")
        return [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
    if "," not in inside:
        raise UserError(
            f"data.root={pattern}: {{{inside}}} must be like {{00000..00099}} or {{a,b}}"
        )
    return inside.split(",")
