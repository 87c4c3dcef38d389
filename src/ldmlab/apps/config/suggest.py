"""Did you mean: the nearest keys, groups and options to what the user typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ldmlab.apps.config.conf_dir import options
from ldmlab.apps.config.overrides import Override
from ldmlab.core.errors import UserError


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names closest to `word`, best first."""
    names = sorted(set(known))
    parent, _, tail = word.rpartition(".")
    # `lr` is far from `stages.diffusion.lr` as a string, and yet what its writer meant.
    found = [name for name in names if name.rpartition(".")[2] == tail]
    # Keys share long prefixes: what was meant is a sibling whose last part is close.
    siblings = {name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == parent}
    for close in difflib.get_close_matches(tail, sorted(siblings), count, cutoff=0.6):
        found.append(f"{parent}.{close}" if parent else close)
    found = found or difflib.get_close_matches(word, names, count, cutoff=0.6)
    return list(dict.fromkeys(found))[:count]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A closing clause `; did you mean ...?`, empty when nothing is near."""
    names = nearest(word, known)
    return f"; did you mean {' or '.join(names)}?" if names else ""


def flatten(tree: Any, prefix: str = "") -> Iterable[str]:
    """Dotted names of every node of nested dictionaries, inner ones included."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{prefix}{key}"
            yield from flatten(value, f"{prefix}{key}.")


def check_group(override: Override) -> None:
    """Make sure that the option exists, where an override chooses one of a group.

    Raises:
        UserError: If the group has no such option.
    """
    groups = options()
    if override.key not in groups:
        return
    names = groups[override.key]
    listed = ", ".join(names)
    if override.value is None:
        raise UserError(f"{override.argument}: {override.key} needs one of its options: {listed}")
    for value in override.value if override.sweeps else [override.value]:
        if str(value) not in names:
            raise UserError(
                f"{override.key} has no option '{value}'{did_you_mean(str(value), names)} "
                f"(options: {listed})"
            )


def check_key(override: Override, known: Sequence[str]) -> None:
    """Make sure that a key exists, unless it is added on purpose.

    Raises:
        UserError: Naming the nearest keys and groups.
    """
    if override.adds or override.key in known or override.key.startswith(("hydra.", "hydra/")):
        return
    candidates = [*known, *options()]
    raise UserError(
        f"there is no key or group '{override.key}'{did_you_mean(override.key, candidates)}"
    )


def check_shape(argument: str) -> None:
    """Refuse an argument without an equals sign, guessing the group it was meant for.

    Raises:
        UserError: If `argument` is no `key=value`.
    """
    if "=" in argument or argument.startswith("~"):
        return
    homes = [f"{group}={argument}" for group, names in options().items() if argument in names]
    hint = f"; did you mean {' or '.join(homes)}?" if homes else ""
    raise UserError(f"'{argument}' is not an override: write key=value{hint}")
