"""Lists the files of a data folder, and splits off the validation set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.data.images.decode import EXTENSIONS, BrokenFileError

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Folders in which other programs keep small copies, or what was thrown away.
_HIDING = frozenset(("@eaDir", "#recycle", "$RECYCLE.BIN"))
# What lies beside images and is none.
_BESIDE = frozenset(
    ".txt .csv .tsv .json .jsonl .xml .yaml .yml .md .html .parquet .db .ini .log".split()
)
_SPLIT_FOLDERS = {"train": ("train", "training"), "validation": ("val", "valid", "validation")}


class Names(Sequence[str]):
    """Many paths in little memory, which processes share without copies.

    Args:
        names: Relative paths.
    """

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._text = b"".join(encoded)
        self._bounds = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        index = range(len(self))[index]
        return os.fsdecode(self._text[self._bounds[index] : self._bounds[index + 1]])


def shown(path: str | os.PathLike[str]) -> str:
    """A path on one line, for messages and lists: what cannot be printed is escaped."""
    text = os.fspath(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def existing_root(root: str | os.PathLike[str] | None, wanted: str) -> Path:
    """The folder of a data set.

    Args:
        root: What the user gave.
        wanted: What should lie in it.

    Raises:
        UserError: None was given, or it is no folder.
    """
    if root is None:
        raise UserError(f"data.root is not set: name the folder that holds {wanted}")
    path = Path(root).expanduser()
    if not os.path.isdir(path):  # noqa: PTH112 (pathlib raises where a folder above is closed)
        found = "is a file" if os.path.lexists(path) else "does not exist"
        raise UserError(f"data.root={root} {found}: name the folder that holds {wanted}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"data.root={root} may not be read: change its permissions")
    return path


def nothing_found(folder: Path, wanted: str, mend: str) -> UserError:
    """One line: what was looked for, what is there, what to change."""
    return UserError(f"{folder} holds no {wanted}; it holds {contents(folder)}: {mend}")


def contents(folder: Path) -> str:
    """What lies in a folder, in a few words."""
    entries = sorted(folder.iterdir())
    folders = [entry.name for entry in entries if entry.is_dir()]
    kinds = Counter(entry.suffix or entry.name for entry in entries if entry.is_file())
    parts = [f"{count} x {kind}" for kind, count in kinds.most_common(3)]
    if folders:
        more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        parts.insert(0, f"the folders {', '.join(folders[:3])}{more}")
    return ", ".join(parts) or "nothing"


def files_below(
    folder: str | os.PathLike[str],
    extensions: Collection[str] = EXTENSIONS,
    left_out: Counter[str] | None = None,
) -> list[str]:
    """Relative paths, with `/`, of the files at any depth, sorted.

    Args:
        folder: Where they lie.
        extensions: Of the files that are meant.
        left_out: Counts the others by extension, and folders that programs hide things in by
            name; texts, tables and what is hidden are not counted.
    """
    return sorted(
        _walk(os.fspath(folder), "", extensions, Counter() if left_out is None else left_out)
    )


def natural_order(names: Iterable[str]) -> list[str]:
    """Sorted as people do: the numbers in names by their size, 2 before 10."""
    return sorted(names, key=lambda name: ([_part(p) for p in re.split(r"([0-9]+)", name)], name))


def _part(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (-1, text)


def _walk(
    folder: str,
    prefix: str,
    extensions: Collection[str],
    left_out: Counter[str],
    above: tuple[str, ...] = (),
) -> Iterator[str]:
    above = (*above, os.path.realpath(folder))
    with _opened(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.name in _HIDING:
                left_out[f"folder {entry.name}"] += 1
                continue
            if _is_folder(entry):
                if not entry.is_symlink() or os.path.realpath(entry.path) not in above:
                    inner = f"{prefix}{entry.name}/"
                    yield from _walk(entry.path, inner, extensions, left_out, above)
                continue
            ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (speed)
            if ending == ".gz" and entry.name.lower().endswith(".nii.gz"):
                ending = ".nii.gz"
            if ending in extensions:
                yield prefix + entry.name
            elif ending not in _BESIDE:
                left_out[ending or "file without an ending"] += 1


def _opened(folder: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise UserError(
            f"the folder {shown(folder)} cannot be read ({error.strerror}): change its "
            "permissions, or move it out of data.root"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a closed folder
        return False


def named_folder(folder: Path, split: str) -> Path | None:
    """The folder that is called after a split."""
    return next((folder / w for w in _SPLIT_FOLDERS[split] if (folder / w).is_dir()), None)


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split, where a data set keeps its splits apart."""
    return named_folder(folder, split) if all(named_folder(folder, s) for s in SPLITS) else None


def held_out(folder: Path, names: Sequence[str], split: str, share: float) -> list[int]:
    """The positions of a split, those with the lowest hash of their names being held out.

    Args:
        folder: Where the samples lie, for messages.
        names: All samples.
        split: `train` or `validation`.
        share: Part of the samples in validation; at least one sample is in each split.

    Raises:
        UserError: There are fewer than two samples.
    """
    if len(names) < 2:
        raise UserError(
            f"{folder} holds {len(names)} image; training and validation need one each at least: "
            "add images, or change data.root"
        )
    order = sorted(range(len(names)), key=lambda i: derive_seed("split", names[i]))
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return sorted(order[:count] if split == "validation" else order[count:])


def read_list(path: str | os.PathLike[str], key: str) -> list[str]:
    """The lines of a list file.

    Args:
        path: The file.
        key: The configuration key that names it.

    Raises:
        UserError: It cannot be read, or is empty.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}={path} cannot be read: {error}") from error
    if not (names := [line.strip() for line in lines if line.strip()]):
        raise UserError(f"{key}={path} is empty: write a name a line")
    return names


def read_file(path: Path) -> bytes:
    """A whole file.

    Raises:
        BrokenFileError: It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokenFileError(f"cannot be read ({error.strerror})") from error
