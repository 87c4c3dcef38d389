"""Post-hoc EMA: an average of any length, synthesised from stored ones after training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.checkpoint_keys import kept_average
from ldmlab.core.errors import UserError
from ldmlab.training.ema import gamma_of


@dataclass(frozen=True)
class Profile:
    """The average p(tau) ~ tau^gamma of the weights up to an update.

    Attributes:
        updates: Number of updates it is taken after.
        gamma: Exponent; larger values forget sooner.
    """

    updates: int
    gamma: float


def coefficients(stored: Sequence[Profile], wanted: Profile) -> NDArray[np.float64]:
    """Factors of stored averages whose sum comes closest to another (Karras et al. 2024, alg. 3).

    Args:
        stored: What there is.
        wanted: What is asked for.

    Returns:
        The least-squares solution for the profiles, one factor for each stored average.
    """
    inner = np.array([[_inner(a, b) for b in stored] for a in stored])
    target = np.array([_inner(a, wanted) for a in stored])
    return np.linalg.lstsq(inner, target, rcond=None)[0]


def combine_weights(
    parts: Iterable[tuple[float, Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """The sum of factor times weights; what is no floating-point number is the last part's."""
    total: dict[str, Tensor] = {}
    for factor, weights in parts:
        for name, value in weights.items():
            if not value.is_floating_point():
                total[name] = value
            elif name in total:
                total[name].add_(value.double(), alpha=factor)
            else:
                total[name] = value.double() * factor
    return {
        name: value.float() if value.is_floating_point() else value for name, value in total.items()
    }


def average_of_length(
    checkpoints: Path, lengths: Sequence[float] | None, length: float
) -> dict[str, Tensor]:
    """The average of another length, from a run's numbered checkpoints and its last.

    Args:
        checkpoints: The run's folder of them.
        lengths: Deviations of the profiles of the averages in each; None where they have none.
        length: Deviation of the profile that is asked for, as a share of the training.

    Raises:
        UserError: The run kept no averages with lengths, or no numbered checkpoints.
    """
    numbered = sorted(checkpoints.glob("step-*.ckpt"))
    if lengths is None or not numbered:
        raise UserError(
            f"ema_std needs a run trained with ema=post_hoc and callbacks.keep_every, and "
            f"{checkpoints.parent} has no "
            f"{'such averages' if lengths is None else 'numbered checkpoints'}"
        )
    steps = {path: int(path.stem.removeprefix("step-")) for path in numbered}
    last = checkpoints / "last.ckpt"
    if last.is_file():
        step = int(read_checkpoint(last)["state_dict"]["steps"])
        if step > max(steps.values()):
            steps[last] = step
    profiles = [Profile(step, gamma_of(each)) for step in steps.values() for each in lengths]
    factors = coefficients(profiles, Profile(max(steps.values()), gamma_of(length)))
    return combine_weights(zip(factors.tolist(), _averages(steps, len(lengths)), strict=True))


def _averages(paths: Iterable[Path], count: int) -> Iterator[dict[str, Tensor]]:
    """Every average of every checkpoint, one checkpoint in memory at a time."""
    for path in paths:
        state = read_checkpoint(path)["state_dict"]
        for which in range(count):
            yield kept_average(state, which)


def _inner(a: Profile, b: Profile) -> float:
    """The integral of the product of two profiles (Karras et al. 2024, equation 157)."""
    ratio = a.updates / b.updates
    power = b.gamma if a.updates < b.updates else -a.gamma
    above = (a.gamma + 1) * (b.gamma + 1) * ratio**power
    return float(above / ((a.gamma + b.gamma + 1) * max(a.updates, b.updates)))
