"""Reads the options of CompVis' published configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmlab.core.errors import UserError

Options = Mapping[str, Any]


def need(options: Options, key: str, where: str) -> Any:
    """The value of an option that has no default.

    Raises:
        UserError: It is missing.
    """
    value = options.get(key)
    if value is None:
        raise UserError(f"{where} of the CompVis configuration lacks {key}")
    return value


def only(options: Options, where: str, expected: Options) -> None:
    """Refuse options whose other values have no counterpart here.

    Args:
        options: The published options.
        where: Their section, for the message.
        expected: The one value of each that can be read, also the published default.

    Raises:
        UserError: An option has another value.
    """
    for key, value in expected.items():
        if options.get(key, value) != value:
            raise UserError(
                f"{where} of the CompVis configuration has {key}={options[key]}, which has no "
                f"counterpart here: only {key}={value} can be read"
            )
