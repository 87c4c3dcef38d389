"""Range checks of arguments, made where they are used: `positive_int(steps=steps)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ldmlab.core.errors import ArgumentError


@dataclass(frozen=True)
class Range:
    """A set of values; to call it with arguments by name checks that each is in the set.

    Args:
        expects: What stands behind "must be".
        holds: Whether a value is in the set.
    """

    expects: str
    holds: Callable[[Any], bool]

    def __call__(self, **arguments: Any) -> None:
        """Check arguments.

        Args:
            **arguments: The values by the names of their parameters.

        Raises:
            ArgumentError: Naming the first argument that is out of range.
        """
        for argument, value in arguments.items():
            if not self.holds(value):
                raise ArgumentError(argument, self.expects, value)

    @property
    def or_none(self) -> Range:
        """The same, and None, which a configuration calls null."""
        return Range(f"{self.expects}, or null", lambda x: x is None or self.holds(x))

    def many(self, least: int = 0, most: int | None = None) -> Range:
        """A list whose entries are all in the set.

        Args:
            least: Its shortest length.
            most: Its longest; any by default.
        """
        length = f"{least} to {most}" if most is not None else f"{least} or more"
        length = str(least) if most == least else length

        def holds(x: Any) -> bool:
            return (
                isinstance(x, Sequence)
                and not isinstance(x, str)
                and least <= len(x) <= (math.inf if most is None else most)
                and all(map(self.holds, x))
            )

        return Range(f"a list of {length}, each {self.expects}", holds)


def _is_whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _is_finite(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def whole_above(low: int) -> Range:
    """The whole numbers greater than `low`."""
    return Range(f"a whole number above {low}", lambda x: _is_whole(x) and x > low)


def whole_in(low: int, high: int) -> Range:
    """The whole numbers from `low` to `high`, both included."""
    return Range(
        f"a whole number from {low} to {high}", lambda x: _is_whole(x) and low <= x <= high
    )


def multiple_of(unit: int) -> Range:
    """The positive multiples of a whole number."""
    return Range(
        f"a positive multiple of {unit}", lambda x: _is_whole(x) and x > 0 and x % unit == 0
    )


def between(low: float, high: float) -> Range:
    """The numbers between two others, both left out."""
    return Range(f"a number between {low} and {high}", lambda x: _is_finite(x) and low < x < high)


def at_least(low: float, of: str = "") -> Range:
    """The finite numbers from `low` up, which may be the value of the argument `of`."""
    return Range(f"a finite number from {_shown(low, of)} up", lambda x: _is_finite(x) and x >= low)


def above(low: float, of: str = "") -> Range:
    """The finite numbers greater than `low`, which may be the value of the argument `of`."""
    return Range(f"a finite number above {_shown(low, of)}", lambda x: _is_finite(x) and x > low)


def one_of(words: Any) -> Range:
    """The words of a Literal type."""
    *others, last = get_args(words)
    return Range(f"{', '.join(map(str, others))} or {last}", lambda x: x in (*others, last))


def _shown(low: float, of: str) -> str:
    return f"{of}={low}" if of else f"{low}"


positive_int = whole_above(0)
natural = Range("a whole number from 0 up", lambda x: _is_whole(x) and x >= 0)
finite = Range("a finite number", _is_finite)
rising_pair = Range(
    "a list of two numbers, the first below the second",
    lambda x: finite.many(2, 2).holds(x) and x[0] < x[1],
)
positive = above(0)
non_negative = at_least(0)
probability = Range("a number from 0 to 1", lambda x: _is_finite(x) and 0 <= x <= 1)
share = Range("a share above 0 and up to 1", lambda x: _is_finite(x) and 0 < x <= 1)
fraction = Range("a number from 0 to below 1", lambda x: _is_finite(x) and 0 <= x < 1)
