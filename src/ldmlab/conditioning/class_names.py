"""Classes that a user asks for, by number, by range or by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ldmlab.core.errors import UserError
from ldmlab.core.suggest import did_you_mean

_ENTRY = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*)\s*(,|$)""")
_NUMBERS = re.compile(r"(-?\d+)(?:-(\d+))?")


def asked_classes(
    key: str, asked: int | str | Sequence[int | str], count: int, names: Sequence[str] = ()
) -> list[int]:
    """The numbers of the classes that are asked for, in their order.

    Args:
        key: What the user calls them, for messages.
        asked: A number, or a text such as `0-9,17` or `[cat, 'red fox']`; or a list of such. A
            name of digits, or with a comma in it, stands in quotes.
        count: Number of the model's classes.
        names: Name of each, as far as they have any.

    Raises:
        UserError: There is no such class, or a number is another class's name.
    """
    given = [asked] if isinstance(asked, int | str) else list(asked)
    numbers: list[int] = []
    for entry in given:
        if isinstance(entry, int):
            numbers += _within(key, [entry], count)
            continue
        whole = entry in names and not _NUMBERS.fullmatch(entry)  # its commas are its own
        for part in [entry] if whole else _parts(entry):
            numbers += _classes(key, part, count, names)
    if not numbers:
        raise UserError(f"{key}= names no class: write numbers, ranges or names, {key}=0-9,17")
    return numbers


def asked_class(key: str, asked: int | str, count: int, names: Sequence[str] = ()) -> int:
    """The number of the one class that is asked for, as of `asked_classes`.

    Raises:
        UserError: There is no such class, or it is more than one.
    """
    numbers = asked_classes(key, asked, count, names)
    if len(numbers) > 1:
        raise UserError(f"{key}={asked} names {len(numbers)} classes: give one")
    return numbers[0]


def _parts(text: str) -> list[str]:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [part.strip() for part, _ in _ENTRY.findall(text) if part.strip()]


def _classes(key: str, part: str, count: int, names: Sequence[str]) -> list[int]:
    quoted = len(part) > 1 and part[0] == part[-1] and part[0] in "'\""
    name = part[1:-1] if quoted else part
    numbers = None if quoted else _NUMBERS.fullmatch(part)
    if numbers is None:
        if name in names:
            return [list(names).index(name)]
        if not names:
            raise UserError(
                f"{key}: the run does not name its classes, '{name}' among them: give numbers from "
                f"0 to {count - 1}"
            )
        hint = did_you_mean(name, names) or f": it knows {', '.join(names[:5])}" + (
            ", …" if len(names) > 5 else ""
        )
        raise UserError(f"{key}: the run has no class named '{name}'{hint}")
    first = int(numbers[1])
    last = first if numbers[2] is None else int(numbers[2])
    if last < first:
        raise UserError(f"{key}={part} is an empty range: write {last}-{first}")
    found = _within(key, range(first, last + 1), count)
    for number in found:
        if str(number) in names and names[number] != str(number):
            raise UserError(
                f"{key}={number} is class number {number}, named '{names[number]}', or the class "
                f"named '{number}': write {key}=['{names[number]}'] or {key}=['{number}']"
            )
    return found


def _within(key: str, numbers: Sequence[int], count: int) -> list[int]:
    for number in (numbers[0], numbers[-1]):
        if not 0 <= number < count:
            raise UserError(
                f"{key}: class {number} is not one of the model's {count}; give a label from 0 to "
                f"{count - 1}"
            )
    return list(numbers)
