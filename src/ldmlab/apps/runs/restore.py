"""Restores a trained model from its run folder, without its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_autoencoder, build_codec, build_model
from ldmlab.apps.runs.find import find_checkpoint, find_run
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.core.checkpoint_file import load_weights, read_checkpoint
from ldmlab.core.checkpoint_keys import (
    autoencoder_weights,
    class_names_in,
    kept_average,
    model_weights,
    spec_in,
    stage_of,
)
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.models.latent_diffusion import LatentDiffusion
from ldmlab.training.post_hoc_ema import average_of_length


@dataclass(frozen=True)
class Restored:
    """A model and where it came from.

    Attributes:
        model: The model with its averaged weights, in evaluation mode.
        spec: What it knows of its data.
        folder: Its run.
        step: Step of its checkpoint.
        classes: Name of each class of its training data; empty where they have none.
    """

    model: LatentDiffusion
    spec: DataSpec
    folder: RunFolder
    step: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestoredCodec:
    """A codec of a run of stage one and where it came from.

    Attributes:
        codec: The codec, not normalised, in evaluation mode.
        spec: What it knows of its data.
        folder: Its run.
        step: Step of its checkpoint.
    """

    codec: Codec
    spec: DataSpec
    folder: RunFolder
    step: int


def stage_of_run(run: str | Path) -> str | None:
    """The stage that a run, or one of its checkpoints, is of."""
    return stage_of(read_checkpoint(find_checkpoint(run)))


def restore_codec(cfg: DictConfig, run: str | Path) -> RestoredCodec:
    """Build the autoencoder of a stage-one run as a codec, on the CPU.

    Args:
        cfg: The run's configuration.
        run: Its folder, or one of its checkpoints.

    Raises:
        UserError: The run has no checkpoint, or of another architecture.
    """
    path = find_checkpoint(run)
    checkpoint = read_checkpoint(path)
    state = checkpoint["state_dict"]
    spec = spec_in(checkpoint)
    codec = NormalizedCodec(build_autoencoder(cfg, spec))
    weights = autoencoder_weights(state, f"run={run}")
    load_weights(codec.autoencoder, weights, f"{path} does not fit its configuration")
    return RestoredCodec(codec.eval(), spec, find_run(run), int(state["steps"]))


def restore(cfg: DictConfig, run: str | Path, ema_std: float | None = None) -> Restored:
    """Build the model of a stage-two run with its averaged weights, on the CPU.

    Args:
        cfg: The run's configuration.
        run: Its folder, or one of its checkpoints.
        ema_std: Deviation of the average's profile, of a run with `ema=post_hoc`; None for the
            average that the run kept.

    Raises:
        UserError: The run has no checkpoint of stage two, or of another architecture; or it did
            not keep what `ema_std` needs.
    """
    folder = find_run(run)
    path = find_checkpoint(run)
    checkpoint = read_checkpoint(path)
    state = checkpoint["state_dict"]
    if stage_of(checkpoint) != "diffusion":
        raise UserError(
            f"{path} is no checkpoint of stage two; name a run of it, "
            f"such as {folder.path.parent.parent / 'diffusion' / 'latest'}"
        )
    spec = spec_in(checkpoint)
    model = build_model(cfg, spec, build_codec(cfg, spec))
    if ema_std is None:
        average = kept_average(state)
    else:
        lengths = cfg.stages.diffusion.ema.get("lengths")
        average = average_of_length(folder.checkpoints, lengths, ema_std)
    weights = model_weights(state, average)
    load_weights(model, weights, f"{path} does not fit its configuration")
    return Restored(model.eval(), spec, folder, int(state["steps"]), class_names_in(checkpoint))
