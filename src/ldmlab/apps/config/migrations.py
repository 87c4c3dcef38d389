"""Configurations of older versions, brought to the keys of this one.

A version is what `config_version` says. Whoever changes a key raises it in conf/config.yaml, adds
the step from the version before here, and stores a run of the new one (scripts/make_stored_run.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ldmlab.core.errors import UserError

Tree = dict[str, Any]

VERSION = 1
# For each older version the step to the next.
MIGRATIONS: dict[int, Callable[[Tree], Tree]] = {}


def migrate(tree: Tree) -> Tree:
    """Bring a run's configuration to the present version.

    Args:
        tree: Plain containers, interpolations kept; they are not changed.

    Returns:
        The configuration with this version's keys.

    Raises:
        UserError: It has no version, as before 0.2.0, or one that is not known here.
    """
    version = tree.get("config_version")
    if version is None:
        raise UserError(
            "no config_version: it was written before ldmlab 0.2.0, whose keys are others; use it "
            "with the ldmlab that wrote it, or train again"
        )
    if type(version) is not int or not 1 <= version <= VERSION:
        raise UserError(
            f"config_version={version} is not known to this ldmlab, which knows 1 to {VERSION}: "
            "install the ldmlab that wrote it, or a newer one"
        )
    for step in range(version, VERSION):
        tree = MIGRATIONS[step](tree) | {"config_version": step + 1}
    return tree
