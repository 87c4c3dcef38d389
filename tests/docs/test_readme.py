"""What the README shows is true: its commands compose, its code runs, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ldmlab.apps.cli.verbs import VERBS
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir, options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip()
    for kind, block in BLOCKS
    if kind == "bash"
    for line in block.splitlines()
    if "train.py" in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_training_commands_compose(command: str) -> None:
    words = shlex.split(command.rpartition("train.py")[2])
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    overrides = [word.replace("seed=1,2", "seed=1") for word in overrides]
    assert compose(overrides).stages.diffusion.max_steps > 0


def test_readme_verbs_exist() -> None:
    for verb in re.findall(r"uv run ldmlab (\w+)", README):
        assert verb in VERBS


@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"])
def test_readme_python_examples_run(code: str) -> None:
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["images"].shape == (4, 3, 8, 8)  # type: ignore[attr-defined]


def test_readme_links_and_images_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).is_file(), target


def test_readme_leaf_table_is_complete() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) >= 6
    for group, leaves in rows:
        # A leaf that only changes another's numbers is no entry of its own.
        own = [
            leaf
            for leaf in options()[group]
            if "defaults:" not in (conf_dir() / group / f"{leaf}.yaml").read_text()
        ]
        assert sorted(re.findall(r"`(\w+)`", leaves)) == sorted(own)
