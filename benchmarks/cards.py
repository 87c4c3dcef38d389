"""Metric cards of finished runs, side by side.

A card's protocol and times come with its values; see [quickstart.md](quickstart.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ldmlab.core.errors import UserError

QUICK: dict[str, Any] = {}


def run(cards: str = "runs/quickstart/diffusion/*/card.json") -> dict[str, Any]:
    """Metrics and wall times of each card that the pattern `cards` finds, by its run.

    Raises:
        UserError: If it finds none.
    """
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(Path().glob(cards))}
    # `latest` is a link to another of them.
    found.pop("latest", None)
    if not found:
        raise UserError(f"cards={cards} finds no metric card: train first, or name others")
    return {
        name: {"seed": card["protocol"]["seed"], "metrics": card["metrics"],
               "wall_seconds": card["wall_seconds"]}
        for name, card in found.items()
    }  # fmt: skip
