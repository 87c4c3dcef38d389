"""Checks the arguments of a call before it is made, against the signature and its annotations.

What was expected is said in plain words, under the dotted key that a value was given for.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ldmlab.core import ranges
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import Range
from ldmlab.core.suggest import did_you_mean

PositiveInt = Annotated[int, ranges.positive_int]
Natural = Annotated[int, ranges.natural]
Positive = Annotated[float, ranges.positive]
NonNegative = Annotated[float, ranges.non_negative]
Probability = Annotated[float, ranges.probability]
Share = Annotated[float, ranges.share]
Name = Annotated[str, Range("a name", bool)]
Betas = Annotated[list[float], ranges.fraction.many(2, 2)]
Seed = Annotated[int, Range("a whole number from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)]

_KINDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text",
}  # fmt: skip
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Collection)
_TABLES = (dict, collections.abc.Mapping)


def expected(annotation: Any, value: Any) -> str | None:
    """What an annotation asks for, in words, where a value is nothing of it.

    Args:
        annotation: Of plain types, `Literal`, `Annotated` with a `Range`, lists and unions; any
            other takes everything.
        value: Plain, as a configuration holds it.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = [part for part in inner[1:] if isinstance(part, Range)]
        if expected(inner[0], value) or not all(part.holds(value) for part in ranges):
            return ranges[0].expects if ranges else expected(inner[0], value)
        return None
    if origin in (Union, types.UnionType):
        found = [expected(part, value) for part in inner]
        return None if None in found else " or ".join(dict.fromkeys(filter(None, found)))
    if annotation in (None, type(None)):
        return None if value is None else "null"
    if origin is Literal:
        return None if value in inner else " or ".join(map(str, inner))
    if annotation in _KINDS:
        return None if _is_a(annotation, value) else _KINDS[annotation]
    if origin in _SEQUENCES or annotation in _SEQUENCES:
        return _expected_items(inner, value)
    if origin in _TABLES or annotation in _TABLES:
        return None if isinstance(value, Mapping) else "a table"
    return None


def check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    path: str,
    typed: Callable[[str], str] = lambda key: key,
) -> None:
    """Refuse values of another kind than a function's annotations name.

    Args:
        function: A class, a dataclass or a function.
        arguments: Plain values by name; names that it does not take are left to others.
        path: Dotted key of the table that holds them.
        typed: What a user would type for a key.

    Raises:
        UserError: Naming key, kind and value.
    """
    check_kinds(hints_of(function), arguments, path, typed)


def check_kinds(
    kinds: Mapping[str, Any],
    values: Mapping[str, Any],
    path: str,
    typed: Callable[[str], str] = lambda key: key,
) -> None:
    """Refuse values of another kind than the annotations of their names; see `check_arguments`."""
    for name, value in values.items():
        if words := expected(kinds.get(name, Any), value):
            key = typed(f"{path}.{name}".lstrip("."))
            raise UserError(f"{key} must be {words}; got {shown(value)}")


def check_signature(
    function: Callable[..., Any],
    positional: Iterable[Any],
    arguments: Mapping[str, Any],
    path: str,
    partial: bool = False,
) -> None:
    """Refuse arguments that a function does not take, and the lack of those that it needs.

    Args:
        function: A class or a function.
        positional: Values without names.
        arguments: Values by name.
        path: Dotted key of the table that holds them.
        partial: Whether further arguments come later.

    Raises:
        UserError: Naming the argument.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a builtin without a signature: its own error will do
    try:
        (signature.bind_partial if partial else signature.bind)(*positional, **arguments)
    except TypeError as error:
        takes = signature.parameters
        unknown = next((name for name in arguments if name not in takes), None)
        where = path or getattr(function, "__qualname__", "the node")
        if unknown is None:
            raise UserError(f"{where}: {function.__name__} {error}") from error
        raise UserError(
            f"{where}.{unknown}: {function.__name__} takes no '{unknown}'"
            f"{did_you_mean(unknown, takes)}"
        ) from error


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what a function takes; none where they cannot be told."""
    found: dict[str, Any] = {}
    try:
        if inspect.isclass(function):
            for base in reversed(function.__mro__):
                found |= get_type_hints(base, include_extras=True)
            function = function.__init__
        elif inspect.isclass(owner := getattr(function, "__self__", None)):
            found |= hints_of(owner)  # a class method that hands arguments on to its constructor
        return found | get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return found


def shown(value: Any) -> str:
    """A value in a message: a text says that it is one."""
    return f"the text '{value}'" if isinstance(value, str) else str(value)


def _is_a(kind: type, value: Any) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)


def _expected_items(inner: tuple[Any, ...], value: Any) -> str | None:
    if not isinstance(value, list | tuple):
        return "a list"
    if not inner:
        return None
    kinds = inner if len(inner) > 1 and Ellipsis not in inner else (inner[0],) * len(value)
    if len(kinds) != len(value):
        return f"a list of {len(kinds)}"
    words = [expected(kind, item) for kind, item in zip(kinds, value, strict=True)]
    wrong = next(filter(None, words), None)
    return None if wrong is None else f"a list, each of it {wrong}"
