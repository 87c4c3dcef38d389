"""Did you mean: the nearest keys, groups and options to what the user typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


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


def nothing_at(path: Path) -> str:
    """Say how far a missing path exists, and what it could have been."""
    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    missing = path.absolute().relative_to(nearest).parts[0]
    names = [entry.name for entry in nearest.iterdir() if not entry.name.startswith(".")]
    hint = did_you_mean(missing, names)
    if not hint:
        hint = f", which holds {', '.join(sorted(names)[:5]) or 'nothing'}"
    return f"there is no {path}: no '{missing}' in {nearest}{hint}"
