"""Finds conf/, and reads its groups from the folder tree without Hydra."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import ldmlab

# Read by another program, from where a user looks for it.
_OF_OTHERS = ("sweep/wandb.yaml",)
_TARGET = re.compile(r"^[^#\n]*_target_:\s*([\w.]+)", re.MULTILINE)


def conf_dir() -> Path:
    """The folder of the configuration: inside an installed package, or beside a checkout's src/.

    Raises:
        FileNotFoundError: If the installation is broken and neither exists.
    """
    package = Path(ldmlab.__file__).resolve().parent
    places = (package / "conf", package.parents[1] / "conf")
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise FileNotFoundError(f"no config.yaml in {' or '.join(map(str, places))}: reinstall ldmlab")


def options() -> dict[str, list[str]]:
    """Every group of conf/ with the names that can stand behind its equals sign."""
    found: dict[str, list[str]] = {}
    for folder in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        leaves = set(folder.glob("*.yaml")) - {conf_dir() / name for name in _OF_OTHERS}
        names = sorted(leaf.stem for leaf in leaves)
        if names and folder.name != "hydra":
            found[folder.name] = names
    return found


@cache
def targets() -> frozenset[str]:
    """The dotted names of all that conf/ builds."""
    leaves = conf_dir().rglob("*.yaml")
    return frozenset(name for leaf in leaves for name in _TARGET.findall(leaf.read_text("utf-8")))
