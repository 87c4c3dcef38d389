"""Tar archives read in place: where each member's bytes lie, and nothing written to disk."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.sources.listing import shown

BLOCK = tarfile.BLOCKSIZE
"""Bytes of a header; a member's data follows it."""

_EMPTY = tarfile.RECORDSIZE  # what tar writes where there is nothing to write
_CHUNK = 1 << 20
_LONG_NAME = b"L"
_PAX = b"x"
_PAX_GLOBAL = b"g"


@dataclass(frozen=True)
class Member:
    """A regular file in an archive.

    Attributes:
        name: Its path in the archive; only ever a label, never a place to write to.
        offset: Its first byte in the archive's file.
        size: Number of its bytes.
    """

    name: str
    offset: int
    size: int


def members(path: Path, start: int = 0, size: int | None = None) -> Iterator[Member]:
    """The regular files of an uncompressed archive.

    Args:
        path: The archive's file.
        start: First byte of the archive, which may lie within another one.
        size: Number of its bytes; to the end of the file by default.

    Yields:
        Each member in order.

    Raises:
        UserError: It is no tar archive, or ends within a member.
    """
    try:
        with path.open("rb") as file:
            end = start + size if size is not None else os.fstat(file.fileno()).st_size
            yield from walk(file, str(path), start, end)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def walk(file: BinaryIO, path: str, offset: int, end: int) -> Iterator[Member]:
    """The regular files of an open archive.

    Args:
        file: What holds it.
        path: Its name, for messages.
        offset: Its first byte.
        end: The byte after its last.

    Yields:
        Each member in order.

    Raises:
        UserError: It is no tar archive, or ends within a member.
    """
    begin = offset
    name: str | None = None
    if offset + BLOCK > end:
        raise UserError(f"{path} is no tar archive: it is too short")
    found: dict[str, Member] = {}
    count = 0
    while offset + BLOCK <= end:
        file.seek(offset)
        block = file.read(BLOCK)
        if not block.strip(b"\0"):
            # The end of an archive, behind which another may have been joined to it.
            offset = _after_zeros(file, offset, end)
            continue
        count += 1
        data = offset + BLOCK
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if header.size < 0:
                raise ValueError("a negative size")
            if data + header.size > end:
                what = shown(name or header.name)
                raise UserError(f"{path} is cut short within {what}: download it again")
            named = header.type in (_LONG_NAME, _PAX)
            if named:
                name = _long_name(header.type, file.read(header.size)) or name
        except (tarfile.HeaderError, ValueError) as error:
            raise UserError(f"{path} is no uncompressed tar archive at byte {offset}") from error
        label = name or header.name
        if header.isreg():
            found[label] = Member(label, data, header.size)
            yield found[label]
        elif header.islnk() or header.issym():
            # tar writes a file once, and what is the same file elsewhere by its name.
            yield _linked(found, header, Member(label, data, 0))
        if not named and header.type != _PAX_GLOBAL:
            name = None
        offset = data + (header.size + BLOCK - 1) // BLOCK * BLOCK
    if not count and end - begin > _EMPTY:
        raise UserError(f"{path} is no tar archive: it holds nothing but zeros")


def _after_zeros(file: BinaryIO, offset: int, end: int) -> int:
    """The first block behind some zeros that holds anything else."""
    while offset < end:
        file.seek(offset)
        chunk = file.read(min(_CHUNK, end - offset))
        if rest := chunk.lstrip(b"\0"):
            return offset + (len(chunk) - len(rest)) // BLOCK * BLOCK
        offset += len(chunk)
        if not chunk:
            break
    return end


def _linked(found: Mapping[str, Member], header: tarfile.TarInfo, empty: Member) -> Member:
    """What a link stands for, under its own name; an empty file where that is not before it."""
    name = header.linkname
    if header.issym():
        name = posixpath.normpath(posixpath.join(posixpath.dirname(empty.name), name))
    return replace(found.get(name, empty), name=empty.name)


def name_in(header: bytes) -> str:
    """The name that a member's header gives it.

    Args:
        header: The block before the member's data.
    """
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
    except tarfile.HeaderError:
        return "?"


def _long_name(kind: bytes, data: bytes) -> str | None:
    """The name that an extra header gives to the member after it."""
    if kind == _LONG_NAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    while data.strip(b"\0"):  # "length key=value\n", the length counting itself
        length, space, _ = data.partition(b" ")
        record = data[len(length) + 1 : int(length)]
        if not space or not record:
            raise ValueError("a record that ends before it begins")
        key, _, value = record.rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return None


class Archives:
    """Files that are read at given places, opened once in each process.

    Args:
        paths: The files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._open: dict[int, int] = {}
        self._process = os.getpid()

    def read(self, archive: int, offset: int, size: int) -> bytes:
        """Some bytes of one file.

        Args:
            archive: Position of the file in `paths`.
            offset: The first byte.
            size: How many.

        Raises:
            BrokenFileError: The file cannot be read, or is shorter than it was.
        """
        try:
            data = os.pread(self._descriptor(archive), size, offset)
        except OSError as error:
            raise BrokenFileError(f"cannot be read ({error.strerror})") from error
        if len(data) != size:
            raise BrokenFileError(f"{self.paths[archive]} ends within it")
        return data

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_open": {}, "_process": -1}

    def open(self, archive: int) -> int:
        """A descriptor of one file.

        Raises:
            OSError: It cannot be opened.
        """
        return os.open(self.paths[archive], os.O_RDONLY)

    def _descriptor(self, archive: int) -> int:
        if self._process != os.getpid():
            self._open, self._process = {}, os.getpid()
        if archive not in self._open:
            if len(self._open) >= 64:  # far below what a process may hold open
                os.close(self._open.pop(next(iter(self._open))))
            self._open[archive] = self.open(archive)
        return self._open[archive]
