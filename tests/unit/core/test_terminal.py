"""What is printed for the user to go on with."""

from __future__ import annotations

import shlex

from ldmlab.core.terminal import next_line


def test_next_line_reaches_the_command_as_it_was_meant() -> None:
    overrides = ["run=my runs/a", 'prompt=a "red" house, it\'s [big]; $HOME `ls` *']
    line = next_line("sample", *overrides)
    assert shlex.split(line) == ["next:", "ldmlab", "sample", *overrides]
    assert next_line("sample", "run=runs/a", "seed=1") == "next: ldmlab sample run=runs/a seed=1"
