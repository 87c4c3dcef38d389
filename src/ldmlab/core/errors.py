"""The exceptions that speak to the user instead of the developer."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """A user's mistake, told in one line that names the key or file and the mend.

    The command line prints the message without a traceback and exits with code 2.
    """


class ArgumentError(ValueError):
    """An argument out of its range, for whoever knows under which key it was given.

    Attributes:
        argument: Name of the constructor's or function's parameter.
        expects: What it must be.
        value: What it got.

    Args:
        argument: Name of the constructor's or function's parameter.
        expects: What it must be.
        value: What it got.
    """

    def __init__(self, argument: str, expects: str, value: Any) -> None:
        # The arguments themselves, so that the error survives the way between processes.
        super().__init__(argument, expects, value)
        self.argument = argument
        self.expects = expects
        self.value = value

    def __str__(self) -> str:
        return f"{self.argument} must be {self.expects}; got {self.value!r}"
