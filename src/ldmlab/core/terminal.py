"""What is said on standard error, beside a command's output: messages and progress."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)


class Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        """The rate of the last half minute."""
        speed = task.finished_speed or task.speed
        return Text("– img/s" if speed is None else f"{speed:.0f} img/s")


def progress(*further: ProgressColumn, on: Console = console, hidden: bool = False) -> Progress:
    """Bars with a name, a count, the time that is left, and further columns before that."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *further
    return Progress(*columns, TimeRemainingColumn(), console=on, disable=hidden)


def next_line(verb: str, *overrides: str) -> str:
    """A line with the command to go on with, to be pasted into a shell as it stands."""
    return f"next: {shlex.join(['ldmlab', verb, *overrides])}"
