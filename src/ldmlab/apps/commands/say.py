"""Messages of commands on standard error, beside their output."""

from __future__ import annotations

import shlex

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


def next_line(verb: str, *overrides: str) -> str:
    """A line with the command to go on with, to be pasted into a shell as it stands."""
    return f"next: {shlex.join(['ldmlab', verb, *overrides])}"
