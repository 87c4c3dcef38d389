"""What a folder of samples says of them: what decided them all, and a line an image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ldmlab.core.errors import UserError
from ldmlab.core.files import told_if_unwritable, write_json, write_text
from ldmlab.core.locks import locked

SETTINGS = "sampling.json"
LINES = "samples.jsonl"

Record = dict[str, Any]


class SampleLog:
    """The log of a folder of samples, which a later start of the same command goes on with.

    Args:
        folder: The folder.
        settings: What decides its images beside their conditions, as plain data.

    Attributes:
        records: What is known of each image that is there, by its index.

    Raises:
        UserError: The folder's images were drawn with other settings, or it cannot be read.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._settings = json.loads(json.dumps(settings))
        self.records: dict[int, Record] = {}
        if (path := folder / SETTINGS).is_file():
            self._refuse_others(_read(path))
            self.records = {r["index"]: r for r in _lines(folder / LINES) if _there(folder, r)}

    def missing(self, wanted: Mapping[int, Record], count: int) -> list[int]:
        """The indices below `count` whose images are not there.

        Args:
            wanted: What is to be known of images, by index, as far as that is known by now.
            count: Number of images that are asked for.

        Raises:
            UserError: An image is there that was drawn under another condition.
        """
        for index in sorted(wanted.keys() & self.records.keys()):
            there = self.records[index]
            named = {"file": there["file"], **wanted[index]}  # known when it is drawn
            if differs := _first_difference(there, json.loads(json.dumps(named))):
                key, old, new = differs
                raise UserError(
                    f"{self.folder / there['file']} is of {key}={old}, and {key}={new} is asked "
                    "for: name another folder with out="
                )
        return [index for index in range(count) if index not in self.records]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder while images are added; their lines are in order when the block ends.

        Raises:
            UserError: Another process holds it, or it cannot be written.
        """
        path = self.folder / SETTINGS
        if not path.is_file():
            write_json(path, self._settings)
        with locked(path, wait=False) as held:
            if held is None:
                raise UserError(
                    f"out={self.folder} is being filled by another process: wait for it, or name "
                    "another folder"
                )
            before = bool(self.records)
            self._rewrite()  # without what a kill has left of a line
            try:
                yield
            finally:
                self._remove_if_alone()
            if before:
                self._rewrite()

    def add(self, record: Record) -> None:
        """Add the line of an image whose file is there.

        Raises:
            UserError: The line cannot be written.
        """
        path = self.folder / LINES
        with told_if_unwritable(path), path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        self.records[record["index"]] = record

    def _rewrite(self) -> None:
        lines = (_line(self.records[index]) for index in sorted(self.records))
        write_text(self.folder / LINES, "".join(lines))

    def _remove_if_alone(self) -> None:
        """Leave no log of no images: of a start that failed at its first."""
        if {path.name for path in self.folder.iterdir()} == {SETTINGS, LINES}:
            (self.folder / LINES).unlink()
            (self.folder / SETTINGS).unlink()

    def _refuse_others(self, there: Record) -> None:
        if differs := _first_difference(there, self._settings):
            key, old, new = differs
            raise UserError(
                f"out={self.folder} holds samples of {key}={old}, and {key}={new} is asked for: "
                "name another folder with out="
            )


def _read(path: Path) -> Record:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): name another folder with out=") from None


def _lines(path: Path) -> Iterator[Record]:
    """Whole lines; the image of any other is drawn again."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("index"), int):
            yield record


def _there(folder: Path, record: Record) -> bool:
    name = record.get("file")
    return isinstance(name, str) and name == Path(name).name and (folder / name).is_file()


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _first_difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """Dotted key and both values of the first leaf in which two records differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else (key, _shown(old), _shown(new))
    for name in [*new, *(name for name in old if name not in new)]:
        inner = f"{key}.{name}" if key else name
        if found := _first_difference(old.get(name), new.get(name), inner):
            return found
    return None


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("name", "{…}")
    return "null" if value is None else " ".join(str(value).split())
