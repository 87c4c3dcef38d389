"""Prints metric cards side by side, as a Markdown table with a column per card.

python benchmarks/cards.py runs/quickstart/diffusion/*/card.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def _cell(card: dict, name: str) -> str:
    metric = card["metrics"].get(name)
    if metric is None:
        return ""
    others = [
        f"{key} {metric[key]:.3g}"
        for key in ("reconstruction", "real", "shuffled")
        if key in metric
    ]
    return f"{metric['value']:.3f}" + (f" ({', '.join(others)})" if others else "")


def main(paths: list[str]) -> None:
    """Print the table."""
    cards = [json.loads(Path(path).read_text()) for path in paths]
    names = list(dict.fromkeys(name for card in cards for name in card["metrics"]))
    print("| metric | " + " | ".join(f"seed {c['protocol']['seed']}" for c in cards) + " |")
    print("|---" * (len(cards) + 1) + "|")
    for name in names:
        print(f"| {name} | " + " | ".join(_cell(card, name) for card in cards) + " |")
    phases = list(dict.fromkeys(phase for card in cards for phase in card["wall_seconds"]))
    for phase in phases:
        spent = [f"{card['wall_seconds'].get(phase, 0):.0f} s" for card in cards]
        print(f"| wall: {phase} | " + " | ".join(spent) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
