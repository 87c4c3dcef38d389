"""EMA weights of a run: the stored ones, or a post-hoc synthesis of another length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from ldmlab.apps.runs.folder import RunFolder
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.training.ema import gamma_of
from ldmlab.training.post_hoc_ema import Profile, coefficients, combine_weights


def kept_average(state: Mapping[str, Tensor], which: int = 0) -> dict[str, Tensor]:
    """The network's averaged weights in a checkpoint, by their names in the network."""
    prefix = "ema.network." if which == 0 else f"ema.others.{which - 1}."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def other_average(cfg: DictConfig, folder: RunFolder, length: float) -> dict[str, Tensor]:
    """The average of another length, from the run's numbered checkpoints and its last.

    Args:
        cfg: The run's configuration.
        folder: The run.
        length: Deviation of its profile, as a share of the training.

    Raises:
        UserError: The run kept no averages with lengths, or no numbered checkpoints.
    """
    lengths = cfg.stages.diffusion.ema.get("lengths")
    numbered = sorted(folder.checkpoints.glob("step-*.ckpt"))
    if lengths is None or not numbered:
        raise UserError(
            f"ema_std needs a run trained with ema=post_hoc and callbacks.keep_every, and "
            f"{folder.path} has no {'such averages' if lengths is None else 'numbered checkpoints'}"
        )
    steps = {path: int(path.stem.removeprefix("step-")) for path in numbered}
    last = folder.checkpoints / "last.ckpt"
    if last.is_file() and (step := _step(last)) > max(steps.values()):
        steps[last] = step
    paths = list(steps)
    profiles = [Profile(steps[path], gamma_of(each)) for path in paths for each in lengths]
    factors = coefficients(profiles, Profile(max(steps.values()), gamma_of(length)))
    return combine_weights(zip(factors.tolist(), _averages(paths, len(lengths)), strict=True))


def _step(path: Path) -> int:
    return int(read_checkpoint(path)["state_dict"]["steps"])


def _averages(paths: list[Path], count: int) -> Iterator[dict[str, Any]]:
    """Every average of every checkpoint, one checkpoint in memory at a time."""
    for path in paths:
        state = read_checkpoint(path)["state_dict"]
        for which in range(count):
            yield kept_average(state, which)
