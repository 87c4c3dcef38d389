"""Finds the values of secret environment variables in what is to be written or shown.

A value is secret when the name of its variable says so, and it is long enough to be one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST = 8


def replace_secrets(
    tree: Any, shown: Callable[[str], str], innocent: Callable[[], Iterable[str]]
) -> Any:
    """Plain containers with something else for each secret; keys and targets stay.

    Args:
        tree: Nested tables and lists.
        shown: What stands for a secret, by the name of its variable.
        innocent: Words that are never secret; asked for only where there are secrets.
    """
    secrets = {
        value: name
        for name, value in os.environ.items()
        if _NAME.search(name) and len(value) >= _SHORTEST
    }
    if secrets:
        for word in innocent():
            secrets.pop(word, None)
    if not secrets:
        return tree
    # The longest first: one secret may begin like another.
    values = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, values)))

    def walk(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: v if key == "_target_" else walk(v) for key, v in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value) for value in node]
        if isinstance(node, str):
            return pattern.sub(lambda found: shown(secrets[found.group()]), node)
        return node

    return walk(tree)
