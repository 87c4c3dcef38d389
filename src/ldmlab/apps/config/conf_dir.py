"""Finds conf/, and reads its groups from the folder tree without Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import ldmlab

# The groups that a trained model can be used with others of.
EXCHANGEABLE = ("sampler", "guidance", "evaluation", "density", "trainer")
# Read by another program, from where a user looks for it.
OF_OTHERS = ("sweep/wandb.yaml",)
_TARGET = re.compile(r"^[^#\n]*_target_:\s*['\"]?([\w.]+)", re.MULTILINE)
_PACKAGE = re.compile(r"\A#\s*@package\s+([\w.]+)")
_KEY = re.compile(r"^( *)([\w.]+):(?:\s+([^#]*?))?(?:\s+#\s*(.*))?$")


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
        names = {leaf.stem for leaf in folder.glob("*.yaml")} - _other_programs(folder)
        if names and folder.name != "hydra":
            found[folder.name] = sorted(names)
    return found


def package_of(group: str) -> str:
    """Where the keys of a group's options lie: `# @package` of its leaves, or its own name."""
    return _package_in(conf_dir(), group)


@cache
def _package_in(root: Path, group: str) -> str:
    for leaf in sorted((root / group).glob("*.yaml")):
        found = _PACKAGE.match(leaf.read_text("utf-8"))
        if found and found[1] != "_global_":
            return found[1]
    return group


def targets(further: Iterable[Path] = ()) -> frozenset[str]:
    """The dotted names of all that conf/, and further folders like it, build."""
    return frozenset().union(*(_targets_below(root) for root in (conf_dir(), *further)))


def own_keys(verb: str) -> Iterator[tuple[str, str, str]]:
    """Key, default and comment of each line of conf/<verb>.yaml, the defaults list left out.

    Args:
        verb: A name, or a pattern of several.

    Yields:
        Dotted key, text of its value, and the comment behind it.
    """
    paths = sorted(conf_dir().glob(f"{verb}.yaml"))
    parents: list[str] = []
    for line in (line for path in paths for line in path.read_text("utf-8").splitlines()):
        if found := _KEY.match(line):
            indent, key, value, comment = found.groups(default="")
            parents = [*parents[: len(indent) // 2], key]
            if parents[0] != "defaults" and (value or comment):
                yield ".".join(parents), value, comment


@cache
def _targets_below(root: Path) -> frozenset[str]:
    texts = (leaf.read_text("utf-8") for leaf in root.rglob("*.yaml"))
    return frozenset(name for text in texts for name in _TARGET.findall(text))


def _other_programs(folder: Path) -> set[str]:
    return {Path(name).stem for name in OF_OTHERS if Path(name).parent.name == folder.name}
