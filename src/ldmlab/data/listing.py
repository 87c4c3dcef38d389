"""What lies in a folder, and who of it is held out for validation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.data.decoding import EXTENSIONS, BrokenFileError

SPLITS = ("train", "validation")
_SPLIT_FOLDERS = {"train": ("train", "training"), "validation": ("val", "valid", "validation")}


class Names(Sequence[str]):
    """Many paths in little memory, which processes share without copies.

    Args:
        names: Relative paths.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = np.array([os.fsencode(name) for name in names] or [b""])[: len(names)]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return os.fsdecode(self._names[index])


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
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise UserError(f"data.root={root} {found}: name the folder that holds {wanted}")
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
    folder: str | os.PathLike[str], extensions: Collection[str] = EXTENSIONS
) -> list[str]:
    """Relative paths, with `/`, of the files at any depth, sorted; hidden ones are left out."""
    return sorted(_walk(os.fspath(folder), "", extensions))


def _walk(folder: str, prefix: str, extensions: Collection[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", extensions)
            elif os.path.splitext(entry.name)[1].lower() in extensions:  # noqa: PTH122 (speed)
                yield prefix + entry.name


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split, where a data set keeps its splits apart."""
    found = {
        name: next((folder / word for word in words if (folder / word).is_dir()), None)
        for name, words in _SPLIT_FOLDERS.items()
    }
    return found[split] if all(found.values()) else None


def train_folder(folder: Path) -> Path | None:
    """The folder of the training data, where it is the only one."""
    return next((folder / w for w in _SPLIT_FOLDERS["train"] if (folder / w).is_dir()), None)


def held_out(names: Sequence[str], split: str, share: float) -> list[int]:
    """The positions of a split, those with the lowest hash of their names being held out.

    Args:
        names: All samples.
        split: `train` or `validation`.
        share: Part of the samples in validation; at least one sample is in each split.

    Raises:
        UserError: There are fewer than two samples.
    """
    if len(names) < 2:
        raise UserError(f"{len(names)} samples cannot be split into training and validation data")
    order = sorted(range(len(names)), key=lambda i: derive_seed("split", names[i]))
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return sorted(order[:count] if split == "validation" else order[count:])


def check_split(split: str) -> None:
    """Refuse an unknown split.

    Raises:
        UserError: Naming the two there are.
    """
    if split not in SPLITS:
        raise UserError(f"split='{split}' is not a split; choose train or validation")


def read_list(path: str | os.PathLike[str], key: str) -> list[str]:
    """The lines of a list file.

    Args:
        path: The file.
        key: The configuration key that names it.

    Raises:
        UserError: It cannot be read, or is empty.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
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
