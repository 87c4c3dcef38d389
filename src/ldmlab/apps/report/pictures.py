"""The pictures that a training drew, side by side."""

from __future__ import annotations

import re
from pathlib import Path

from ldmlab.apps.report.elements import Markup
from ldmlab.apps.report.page import paragraph, picture, row

_KINDS = {
    "reconstructions": "below the validation images that they are of",
    "samples": "always of the same noise and conditions",
}
_NAME = re.compile(r"(reconstructions|samples)-(\d+)\.png")
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST = 6


def over_time(folder: Path) -> tuple[list[Markup], list[str]]:
    """The pictures of a run's samples/, the first and the last among them, and what is damaged.

    Args:
        folder: Where reconstructions-<step>.png and samples-<step>.png lie.
    """
    shown: list[Markup] = []
    damaged: list[str] = []
    found = [(m[1], int(m[2]), p) for p in folder.glob("*.png") if (m := _NAME.fullmatch(p.name))]
    for kind, what in _KINDS.items():
        steps = sorted((step, path) for name, step, path in found if name == kind)
        if not steps:
            continue
        figures = []
        for step, path in _spread(steps):
            content = path.read_bytes()
            if content.startswith(_PNG):
                figures.append(picture(content, f"{kind} at step {step:,}"))
            else:
                damaged.append(f"{path} is no PNG and is left out")
        said = f"{len(figures)} of {len(steps)} {kind}, {what}."
        shown += [paragraph(said), row(figures)]
    return shown, damaged


def _spread(steps: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """The first, the last, and some between at equal distances."""
    if len(steps) <= _MOST:
        return steps
    return [steps[round(k * (len(steps) - 1) / (_MOST - 1))] for k in range(_MOST)]
