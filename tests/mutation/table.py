"""The tables of planted faults: one TOML file a room, an entry a fault."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """A semantic mistake, and who must see it.

    Attributes:
        table: The room it is planted in.
        name: What is wrong once it is planted, as a reader of the code would say it.
        file: Where, from the root of the checkout.
        find: The text that it replaces; there once.
        replace: What stands there instead.
        tests: Files or node ids of pytest, of which one must fail.
    """

    table: str
    name: str
    file: str
    find: str
    replace: str
    tests: list[str]

    def planted(self, root: Path) -> str:
        """The text of the file with the fault in it.

        Raises:
            ValueError: The text to replace is not there, or more than once.
        """
        text = (root / self.file).read_text("utf-8")
        if text.count(self.find) != 1:
            raise ValueError(f"{self.name}: {self.file} has its text {text.count(self.find)} times")
        return text.replace(self.find, self.replace)


def tables() -> list[str]:
    """The names of all tables."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def read_tables(names: Sequence[str] = ()) -> list[Fault]:
    """The faults of some tables, or of all.

    Raises:
        FileNotFoundError: There is no table of that name.
    """
    found = []
    for name in names or tables():
        entries = tomllib.loads((HERE / f"{name}.toml").read_text("utf-8"))
        found += [Fault(table=name, **entry) for entry in entries["fault"]]
    return found
