"""Old configurations made new."""

from typing import Any


def migrate(tree: Any, path: Any) -> Any:
    """Nothing yet."""
    return tree
