"""Learning-rate schedules: factors of the base rate as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from ldmlab.core.ranges import natural, positive_int, probability

LRSchedule = Callable[[int], float]


def constant(total_steps: int, warmup_steps: int = 0, start: float | None = None) -> LRSchedule:
    """A linear warm-up, then 1.

    Args:
        total_steps: Length of the run; nothing depends on it.
        warmup_steps: Length of the warm-up.
        start: Factor of the first step; 1 / (warmup_steps + 1) by default.
    """
    positive_int(total_steps=total_steps)
    natural(warmup_steps=warmup_steps)
    probability.or_none(start=start)
    first = 1 / (warmup_steps + 1) if start is None else start
    return lambda step: 1.0 if step >= warmup_steps else first + (1 - first) * step / warmup_steps


def warmup_cosine(
    total_steps: int, warmup_steps: int = 0, final: float = 0.0, start: float | None = None
) -> LRSchedule:
    """A linear warm-up, then half a cosine down to `final`.

    Args:
        total_steps: Step at which `final` is reached.
        warmup_steps: Length of the warm-up.
        final: Last factor, in [0, 1].
        start: Factor of the first step; 1 / (warmup_steps + 1) by default.
    """
    probability(final=final)
    warmup = constant(total_steps, warmup_steps, start)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return warmup(step)
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return factor
