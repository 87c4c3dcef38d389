"""Nested tables, as of a configuration, by the dotted keys of what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def flatten(tree: Any, prefix: str = "") -> Iterable[str]:
    """Dotted names of every node of nested dictionaries, inner ones included."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{prefix}{key}"
            yield from flatten(value, f"{prefix}{key}.")


def leaves(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of nested tables with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def cut(tree: dict[str, Any], path: list[str]) -> dict[str, Any] | None:
    """Take what lies at a path out of nested tables, with the path; None where nothing does."""
    *owners, last = path
    for name in owners:
        tree = tree.get(name) or {}
    if last not in tree:
        return None
    part: Any = tree.pop(last)
    for name in reversed(path):
        part = {name: part}
    return dict(part)
