"""Captions that lie beside images: a text file each, or one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import decode_text, one_line
from ldmlab.data.sources.listing import shown
from ldmlab.data.sources.tables import TABLES, column_of, read_rows

_NAMES = ("file_name", "filename", "image", "path", "file")
_TEXTS = ("text", "caption")


class FolderCaptions:
    """The captions of each image of a folder: one, an empty one where there is none, or several.

    Args:
        root: The data set's folder.
        folder: The folder of the images.
        split: Where those of the split lie: the same folder, or one in it.
        source: `txt` for a text file beside each image, or the name of a csv file or a jsonl file
            in the root or in the split's folder, where Hugging Face's metadata.jsonl lies. A table
            has a column `file_name` (or filename, image, path, file) with paths relative to the
            images' folder, to the root or to the table, and a column `text` or `caption`; further
            rows of one image are further captions of it, as are texts in a list.
        names: The split's images, relative to their folder.

    Raises:
        UserError: The table cannot be read or lacks a column, or none of the images has a caption.
    """

    def __init__(
        self, root: Path, folder: Path, split: Path, source: str, names: Sequence[str]
    ) -> None:
        self._folder = folder
        self._table: dict[str, tuple[str, ...]] | None = None
        if source != "txt":
            table = root / source if (root / source).is_file() else split / source
            self._table = _read_table(table if table.is_file() else root / source)
            self._to_root = _below(folder, root)
            self._to_table = _below(table.parent, folder)
        if not any(any(self(name)) for name in names):
            raise UserError(
                f"data.captions={source} has no caption for any of {len(names)} images, such as "
                f"{shown(names[0])}: {self._mend()}"
            )

    @property
    def several(self) -> bool:
        """Whether any image has more than one."""
        return any(len(texts) > 1 for texts in (self._table or {}).values())

    def __call__(self, name: str) -> tuple[str, ...]:
        """The captions of the image at a relative path."""
        if self._table is not None:
            for path in (name, self._to_root + name, name.removeprefix(self._to_table)):
                if path in self._table:
                    return self._table[path]
            return ("",)
        try:
            data = (self._folder / PurePosixPath(name)).with_suffix(".txt").read_bytes()
        except OSError:
            return ("",)
        return (decode_text(data),)

    def _mend(self) -> str:
        if self._table is None:
            return "write a text file of the same name beside each"
        return f"write paths like that, instead of {shown(next(iter(self._table)))}"


def _below(folder: Path, above: Path) -> str:
    """What a path relative to `above` begins with for a file in `folder`; empty where it is not."""
    inside = folder.is_relative_to(above) and folder != above
    return f"{folder.relative_to(above).as_posix()}/" if inside else ""


def _read_table(path: Path) -> dict[str, tuple[str, ...]]:
    if path.suffix.lower() not in TABLES:
        raise UserError(f"data.captions={path.name} must be txt, or a .csv or .jsonl file")
    rows = read_rows("data.captions", path)
    name, caption = (column_of("data.captions", path, rows, known) for known in (_NAMES, _TEXTS))
    found: dict[str, list[str]] = {}
    for row in rows:
        image = str(PurePosixPath(str(row.get(name))))
        found.setdefault(image, []).extend(_texts(path, image, row.get(caption)))
    # An empty row beside a text says nothing.
    return {image: tuple(filter(None, texts)) or ("",) for image, texts in found.items()}


def _texts(path: Path, name: str, caption: Any) -> list[str]:
    texts: list[Any] = caption if isinstance(caption, list) else [caption or ""]
    for text in texts:
        if not isinstance(text, str):
            raise UserError(
                f"data.captions: the caption of {shown(name)} in {path} is a "
                f"{type(text).__name__}: write a text, or a list of texts"
            )
    return [one_line(text) for text in texts]
