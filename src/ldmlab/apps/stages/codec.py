"""The codec of stage two: the autoencoder that stage one has trained, found and normalised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_codec
from ldmlab.apps.config.run_id import name_of_run, stage_identity
from ldmlab.apps.runs.find import find_checkpoint
from ldmlab.apps.stages.session import Session, console
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.core.checkpoint_file import load_weights, read_checkpoint
from ldmlab.core.checkpoint_keys import autoencoder_weights, codec_weights, spec_in
from ldmlab.core.device import device_of
from ldmlab.core.errors import UserError
from ldmlab.data.sampling.datasets import Subset, in_order
from ldmlab.training.latents import encoded_at_once, normalize_like

# What decides the result of stage one, and so names its run.
AUTOENCODER_KEYS = (
    "seed", "data", "~data.in_memory", "autoencoder", "bottleneck", "discriminator", "perceptual",
    "optimizer", "lr_schedule", "scale_lr", "stages.autoencoder",
)  # fmt: skip


def stage_one_codec(session: Session) -> tuple[Codec, bool]:
    """The codec with stage one's weights, and whether it needs no normalisation any more.

    Args:
        session: The experiment; `codec.run` may name another's stage one, or a stage two,
            whose codec is taken as it is.

    Raises:
        UserError: Stage one is missing, of another shape, or the experiment's own and unfinished.
    """
    cfg = session.cfg
    codec = build_codec(cfg, session.spec)
    if not isinstance(codec, NormalizedCodec):
        return codec, True
    path = _own_stage_one(cfg) if cfg.codec.run is None else cfg.codec.run
    misfit = f"codec.run={path} is another autoencoder than this configuration's"
    checkpoint = read_checkpoint(find_checkpoint(path))
    _compare_values(session, path, checkpoint)
    state = checkpoint["state_dict"]
    if whole := codec_weights(state):
        load_weights(codec, whole, misfit)
        return codec, True
    _check_finished(cfg, path, int(state["steps"]), checkpoint["metadata"].get("max_steps", 0))
    load_weights(codec.autoencoder, autoencoder_weights(state, f"codec.run={path}"), misfit)
    return codec, False


def _compare_values(session: Session, path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Say where an autoencoder has learnt from other values: what is dark to it may be bright."""
    if "spec" not in checkpoint["metadata"]:
        return
    known, now = spec_in(checkpoint).values, session.spec.values
    if known != now:
        console.print(
            f"[yellow]warning:[/] codec.run={path} was trained on {known.told()}, and this data is "
            f"read as {now.told()}: name the same data.value_range for both"
        )


def _check_finished(cfg: DictConfig, path: str | Path, step: int, goal: int) -> None:
    """Stage two freezes the autoencoder: say so where its training has not come to its end.

    Args:
        cfg: The configuration.
        path: The checkpoint of stage one, or the run that `codec.run` names.
        step: Steps behind it.
        goal: Steps that it was to be trained for; 0 where that is not known.

    Raises:
        UserError: It is the experiment's own, which stage=all would go on training.
    """
    if cfg.codec.run is None and step < cfg.stages.autoencoder.max_steps:
        raise UserError(
            f"stage one in {path} stands at step {step} of {cfg.stages.autoencoder.max_steps}: "
            f"train it to its end with stage=all, or take it as it is with codec.run={path}"
        )
    if step < goal:
        console.print(f"[yellow]warning:[/] codec.run={path} stands at step {step} of {goal}")


def normalize(session: Session, codec: Codec) -> None:
    """Take the normalisation of cached latents, or measure it on the first training images.

    Raises:
        UserError: Cached latents are not there, or are another codec's.
    """
    assert isinstance(codec, NormalizedCodec)
    if (latents := session.cfg.data.latents) is not None:
        normalize_like(codec, Path(latents) / "train")
        return
    device = device_of(session.cfg.trainer.accelerator, session.cfg.trainer.devices)
    codec.to(device)
    count = min(session.cfg.codec.num_images, len(session.train))
    first = in_order(Subset(session.train, count), encoded_at_once(session.spec.image_size))
    codec.normalize_on(batch.image.to(device) for batch in first if batch.image is not None)


def stage_one_run(cfg: DictConfig) -> Path:
    """The run of an experiment's own autoencoder, whether there is one yet or not."""
    name = name_of_run(cfg, stage_identity(cfg, AUTOENCODER_KEYS))
    return Path(cfg.paths.runs) / str(cfg.name) / "autoencoder" / name


def _own_stage_one(cfg: DictConfig) -> Path:
    """The checkpoint of an experiment's own autoencoder."""
    run = stage_one_run(cfg)
    try:
        return find_checkpoint(run)
    except UserError as error:
        raise UserError(
            f"stage two needs the autoencoder of stage one and {run} has none: train it with "
            "stage=autoencoder (or stage=all), or name one with codec.run=<run folder>"
        ) from error
