"""What the numbers of a metric card rest on, and whether two cards rest on the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ldmlab.evaluation.protocol import Evaluation, Subject


def heading(evaluation: Evaluation, subject: Subject, run: str, step: int) -> dict[str, Any]:
    """What the numbers of a card rest on.

    Args:
        evaluation: What judges.
        subject: What is judged.
        run: Name of its run.
        step: Step of its checkpoint.
    """
    return {
        "protocol": {
            **evaluation.protocol(),
            "sampler": described(subject.sampler),
            "guidance": described(subject.guidance),
            "seed": subject.seed,
        },
        "run": run,
        "step": step,
        "codec": subject.model.codec.fingerprint(),
    }


def rests_on(card: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a card that was read from a file has this heading."""
    wanted = json.loads(json.dumps(wanted))
    return wanted == {name: card.get(name) for name in wanted} and "measured" in card


def described(part: Any) -> Any:
    """A sampler or a guidance as data: its name and its numbers, those of its parts included."""
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # JSON has no infinity
    if part is None or isinstance(part, bool | int | float | str):
        return part
    return {"name": type(part).__name__} | {k: described(v) for k, v in vars(part).items()}
