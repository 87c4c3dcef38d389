"""The two stages of an experiment: train the autoencoder, freeze it, train the diffusion model."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from omegaconf import DictConfig

from ldmlab.apps.build.device import device_of
from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_codec,
    build_diffusion_module,
    build_model,
)
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.run_id import name_of_run, stage_identity
from ldmlab.apps.runs.find import find_checkpoint
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.init_weights import (
    autoencoder_weights,
    codec_weights,
    start_autoencoder,
    start_network,
)
from ldmlab.apps.stages.fit_stage import fit_stage
from ldmlab.apps.stages.latents import check_conditions, normalize_like, open_latents, stored_form
from ldmlab.apps.stages.session import Session, console
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.checkpoint_file import load_weights, read_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import (
    BatchDataset,
    InMemory,
    Subset,
    check_memory,
    in_order,
    with_latents,
)
from ldmlab.training.callbacks.health import AutoencoderHealth
from ldmlab.training.callbacks.pictures import Reconstructions, Samples

# What decides the result of a stage, and so names its run.
AUTOENCODER_KEYS = (
    "seed", "data", "~data.in_memory", "autoencoder", "bottleneck", "discriminator", "perceptual",
    "optimizer", "lr_schedule", "scale_lr", "stages.autoencoder",
)  # fmt: skip
DIFFUSION_KEYS = (
    "seed", "data", "codec", "network", "conditioner", "schedule", "parameterization", "weighting",
    "timestep_sampler", "optimizer", "lr_schedule", "scale_lr", "stages.diffusion",
)  # fmt: skip

RECONSTRUCTED_IMAGES = 8
ENCODED_PIXELS = 250 * 32 * 32


def train_autoencoder(session: Session) -> RunFolder:
    """Stage one, found finished, continued or trained."""
    cfg = session.cfg
    identity = stage_identity(cfg, AUTOENCODER_KEYS)
    with session.run_folder("autoencoder", name_of_run(cfg, identity)) as folder:
        torch.manual_seed(cfg.seed)
        module = build_autoencoder_module(cfg, session.spec)
        if weights := cfg.stages.autoencoder.weights:
            start_autoencoder(module.autoencoder, weights)
        shown = session.validation.__getitems__(
            list(range(min(RECONSTRUCTED_IMAGES, len(session.validation))))
        )
        assert shown.image is not None
        pictures = Reconstructions(shown.image, folder.samples, cfg.callbacks.sample_every)
        fit_stage(
            session,
            "autoencoder",
            module,
            session.train,
            session.validation,
            folder,
            [pictures, AutoencoderHealth()],
            identity,
            {"max_steps": cfg.stages.autoencoder.max_steps},
        )
    return folder


def train_diffusion(session: Session) -> RunFolder:
    """Stage two on the latents of the frozen codec, found finished, continued or trained."""
    cfg = session.cfg
    started = time.monotonic()
    codec, normalized = stage_one_codec(session)
    # Not of the normalisation, whose last bits another machine may measure otherwise.
    weights_hash = codec.fingerprint()
    if not normalized:
        normalize(session, codec)
    torch.manual_seed(cfg.seed)
    model = build_model(cfg, session.spec, codec)
    latents, validation = _latents(session, codec, model.network.conditioner)
    session.seconds["codec"] = time.monotonic() - started
    cached = stored_form(latents, model.network.conditioner)
    identity = stage_identity(cfg, DIFFUSION_KEYS, codec_hash=weights_hash, latents=cached)
    with session.run_folder("diffusion", name_of_run(cfg, identity)) as folder:
        if weights := cfg.stages.diffusion.weights:
            start_network(model.network, weights)
        module = build_diffusion_module(cfg, model)
        shown = min(cfg.callbacks.num_samples, len(session.validation))
        pictures = Samples(
            session.validation.__getitems__(list(range(shown))),
            session.spec.image_size,
            build(cfg.sampler),
            build(cfg.guidance),
            cfg.seed,
            folder.samples,
            cfg.callbacks.sample_every,
        )
        metadata = {"codec": codec.fingerprint()}
        fit_stage(
            session,
            "diffusion",
            module,
            latents,
            validation,
            folder,
            [pictures],
            identity,
            metadata,
        )
    return folder


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
    path = _own_stage_one(session) if cfg.codec.run is None else cfg.codec.run
    misfit = f"codec.run={path} is another autoencoder than this configuration's"
    checkpoint = read_checkpoint(find_checkpoint(path))
    state = checkpoint["state_dict"]
    if whole := codec_weights(state):
        load_weights(codec, whole, misfit)
        return codec, True
    _check_finished(cfg, path, int(state["steps"]), checkpoint["metadata"].get("max_steps", 0))
    load_weights(codec.autoencoder, autoencoder_weights(state, f"codec.run={path}"), misfit)
    return codec, False


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
    device = device_of(session.cfg)
    codec.to(device)
    count = min(session.cfg.codec.num_images, len(session.train))
    first = in_order(Subset(session.train, count), _encoded_at_once(session))
    codec.normalize_on(batch.image.to(device) for batch in first if batch.image is not None)


def _latents(
    session: Session, codec: Codec, conditioner: Conditioner
) -> tuple[BatchDataset, BatchDataset]:
    """Training and validation data of stage two.

    They are cached latents, latents held in memory, or images to encode at each step.
    """
    if session.cfg.data.latents is not None:
        train, validation = open_latents(session, codec, conditioner)
        check_conditions(train, session.train, conditioner, "leave data.latents out")
        return train, validation
    if session.cfg.data.in_memory:
        device = device_of(session.cfg)
        codec.to(device)

        def encoded(batch: Batch) -> Batch:
            return with_latents(batch.to(device), codec.encode).to("cpu")

        first = encoded(session.train.__getitems__([0]))
        mend = "set data.in_memory=false"
        check_conditions(InMemory([first]), session.train, conditioner, mend)
        check_memory(first, len(session.train), "latents")
        batches = in_order(session.train, _encoded_at_once(session))
        return InMemory([encoded(batch) for batch in batches], session.train), session.validation
    latent = (codec.latent_channels, *(session.spec.image_size // codec.factor,) * 2)
    size = 2 * 4 * math.prod(latent) * len(session.train) / 2**30
    console.print(
        f"diffusion: {len(session.train):,} images are encoded as training meets them; "
        f"data.in_memory=true would hold their latents in {size:.1f} GiB, and `ldmlab encode` "
        "keep them on disk"
    )
    return session.train, session.validation


def _encoded_at_once(session: Session) -> int:
    """How many images the codec takes at once: as many pixels as 250 images of 32 x 32."""
    return max(1, ENCODED_PIXELS // session.spec.image_size**2)


def _own_stage_one(session: Session) -> Path:
    """The checkpoint of this experiment's autoencoder."""
    cfg = session.cfg
    id = name_of_run(cfg, stage_identity(cfg, AUTOENCODER_KEYS))
    run = Path(cfg.paths.runs) / cfg.name / "autoencoder" / id
    try:
        return find_checkpoint(run)
    except UserError as error:
        raise UserError(
            f"stage two needs the autoencoder of stage one and {run} has none: train it with "
            "stage=autoencoder (or stage=all), or name one with codec.run=<run folder>"
        ) from error
