"""LAION as img2dataset stores it: tar shards in which a key names image, caption and facts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from ldmlab.data.decoding import EXTENSIONS, decode_text
from ldmlab.data.listing import (
    Names,
    check_split,
    existing_root,
    files_below,
    held_out,
    nothing_found,
)
from ldmlab.data.sample import Sample
from ldmlab.data.tars import Archives, Member, members

_WANTED = "img2dataset shards (00000.tar, ... of key.jpg, key.txt, key.json)"
_IMAGE, _TEXT, _JSON = range(3)


class Shards:
    """Images with captions in tar shards, at random access.

    Args:
        split: `train` or `validation`.
        root: Folder of the shards.
        validation_share: Part of the samples that is held out, by a hash of shard and key.

    Raises:
        UserError: There are no shards, or one is cut short.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        split: str,
        root: str | os.PathLike[str] | None = None,
        validation_share: float = 0.001,
    ) -> None:
        check_split(split)
        self.root = existing_root(root, _WANTED)
        shards = files_below(self.root, {".tar"})
        names: list[str] = []
        places: list[list[int]] = []
        for number, shard in enumerate(shards):
            for key, parts in _keys(members(self.root / shard)).items():
                if _IMAGE in parts:
                    names.append(f"{shard}/{key}")
                    places.append([number, *(v for kind in range(3) for v in _place(parts, kind))])
        if not names:
            raise nothing_found(self.root, _WANTED, "change data.root")
        chosen = held_out(names, split, validation_share)
        self._archives = Archives([self.root / shard for shard in shards])
        self._names = Names([names[i] for i in chosen])
        self._places = np.array(places, np.int64)[chosen]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Shard and key."""
        return str(self.root / self._names[index])

    def read(self, index: int) -> Sample:
        """Image and caption.

        Raises:
            BrokenFileError: The shard has changed since it was indexed.
        """
        image = self._part(index, _IMAGE)
        assert image is not None
        return Sample(image, caption=self.caption(index))

    def caption(self, index: int) -> str:
        """The caption; empty where there is none."""
        text = self._part(index, _TEXT)
        if text is not None:
            return decode_text(text)
        facts = self._part(index, _JSON)
        if facts is None:
            return ""
        try:
            found = json.loads(facts)
        except ValueError:
            return ""
        caption = found.get("caption") if isinstance(found, dict) else None
        return decode_text(str(caption or "").encode())

    def _part(self, index: int, kind: int) -> bytes | None:
        archive, *places = self._places[index].tolist()
        offset, size = places[2 * kind : 2 * kind + 2]
        return None if offset < 0 else self._archives.read(archive, offset, size)


def _keys(found: Iterable[Member]) -> dict[str, dict[int, Member]]:
    """The members of a shard by key and kind."""
    keys: dict[str, dict[int, Member]] = {}
    for member in found:
        path = PurePosixPath(member.name)
        stem, _, extension = path.name.partition(".")
        kind = {"txt": _TEXT, "json": _JSON}.get(extension.lower())
        if kind is None and f".{extension.lower()}" in EXTENSIONS:
            kind = _IMAGE
        if kind is not None:
            keys.setdefault(str(path.parent / stem), {})[kind] = member
    return keys


def _place(parts: dict[int, Member], kind: int) -> tuple[int, int]:
    return (parts[kind].offset, parts[kind].size) if kind in parts else (-1, 0)
