"""Every promise has its test: RELIABILITY.md and SECURITY.md name some, and those exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("RELIABILITY.md", "SECURITY.md")


def plain(text: str) -> str:
    return " ".join(text.split())


README = plain((ROOT / "README.md").read_text())


def rows(name: str) -> list[tuple[str, list[str]]]:
    """Each promise of a file's table, and the tests named beside it."""
    lines = re.findall(r"^\| (.*) \| (.*) \|$", (ROOT / name).read_text(), re.MULTILINE)
    return [(promise, re.findall(r"`([^`]+)`", tests)) for promise, tests in lines[1:]]


@cache
def functions_in(module: Path) -> set[str]:
    tree = ast.parse(module.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", FILES)
def test_every_named_test_exists(name: str) -> None:
    found = rows(name)
    assert len(found) > 5
    for promise, tests in found:
        assert tests, promise
        for test in tests:
            module, _, function = test.partition("::")
            assert (ROOT / "tests" / module).is_file(), test
            assert function.startswith("test_"), test
            assert function in functions_in(ROOT / "tests" / module), test


def test_every_promise_is_the_readmes() -> None:
    for promise, _ in rows("RELIABILITY.md"):
        assert promise in README, promise


def test_every_word_of_what_holds_has_a_row() -> None:
    text = (ROOT / "README.md").read_text()
    section = re.search(r"^## What holds\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert section is not None
    bullets = re.findall(r"^- (.*?)(?=^- |\n\n)", section[1], re.DOTALL | re.MULTILINE)
    assert len(bullets) > 5
    for bullet in map(plain, bullets):
        left = bullet
        for promise, _ in rows("RELIABILITY.md"):
            left = left.replace(promise, "")
        assert not re.search(r"\w", left), f"no row for {left!r} of {bullet!r}"


def test_readme_leads_to_both() -> None:
    assert all(f"]({name})" in README for name in FILES)
