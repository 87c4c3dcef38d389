"""What a run's numbers warn of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from ldmlab.apps.report.charts import Point

History = Mapping[int, Mapping[str, float]]

WAITING = 0.3  # share of the time from which the loader is what a training waits for
_WORSE = 0.02  # of a loss, relative
_WORSE_DB = 0.3  # of a PSNR
_PATIENCE = 2  # validations since the best one


def points(history: History, name: str) -> list[Point]:
    """Steps and values of a metric, those left out that do not have it."""
    return [(float(step), row[name]) for step, row in sorted(history.items()) if name in row]


def findings(history: History) -> list[str]:
    """Warnings of the numbers that a run has logged, each with what to do.

    Args:
        history: Values of each step by name.
    """
    found = [_skipped(history), _waiting(history), _rising(history), _not_finite(history)]
    return [line for line in found if line]


def _skipped(history: History) -> str | None:
    # The count begins anew with each start of the run.
    total, before = 0.0, 0.0
    for _, count in points(history, "train/skipped_steps"):
        total += count - before if count >= before else count
        before = count
    if not total:
        return None
    return (
        f"at least {total:.0f} steps were skipped, whose gradients were not finite: lower the "
        "stage's lr, or raise warmup_steps"
    )


def _waiting(history: History) -> str | None:
    shares = [y for _, y in points(history, "throughput/waiting_for_data") if math.isfinite(y)]
    if not shares or (share := fmean(shares)) <= WAITING:
        return None
    return (
        f"{share:.0%} of the time went into waiting for data: raise data.num_workers, or keep "
        "data nearer (data.in_memory=true, ldmlab encode)"
    )


def _rising(history: History) -> str | None:
    for name, sign in (("val/loss", 1), ("val/psnr", -1)):
        values = [(x, y) for x, y in points(history, name) if math.isfinite(y)]
        if len(values) <= _PATIENCE:
            continue
        best = min(range(len(values)), key=lambda k: sign * values[k][1])
        (step, least), (_, last) = values[best], values[-1]
        margin = _WORSE * abs(least) if sign > 0 else _WORSE_DB
        if len(values) - 1 - best >= _PATIENCE and sign * (last - least) > margin:
            word = "rose" if sign > 0 else "fell"
            return (
                f"{name} {word} from {least:.4g} at step {step:.0f} to {last:.4g}: the model "
                "learns its training images by heart, or lr is too high; checkpoints/best.ckpt "
                "is of the best step where callbacks.best=true"
            )
    return None


def _not_finite(history: History) -> str | None:
    names = sorted({k for row in history.values() for k, v in row.items() if not math.isfinite(v)})
    return f"values that are not finite were logged of {_listed(names)}" if names else None


def _listed(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
