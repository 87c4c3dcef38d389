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
