"""Docstrings name only arguments that exist, and leave types to the signature."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# A docstring may leave out arguments and results that their names and types explain.
_MAY = {"DOC101", "DOC103", "DOC109", "DOC201"}


def test_docstrings_agree_with_signatures() -> None:
    command = [sys.executable, "-m", "pydoclint.main", "--quiet", "src"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    codes = [(re.search(r"DOC\d{3}", line), line) for line in lines]
    assert [line for code, line in codes if code and code[0] not in _MAY] == []
    assert "Error" not in done.stderr
