"""The two stages of an experiment: train the autoencoder, freeze it, train the diffusion model."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_diffusion_module,
    build_model,
)
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.run_id import name_of_run, split_identity, stage_identity
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.init_weights import start_autoencoder, start_network
from ldmlab.apps.stages.codec import AUTOENCODER_KEYS, normalize, stage_one_codec
from ldmlab.apps.stages.fit_stage import fit_stage
from ldmlab.apps.stages.session import Session, console
from ldmlab.autoencoding.codec import Codec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.device import device_of
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.training.callbacks.health import AutoencoderHealth
from ldmlab.training.callbacks.pictures import Reconstructions, Samples
from ldmlab.training.latents import stored_form

# What decides the result of stage two, and so names its run.
DIFFUSION_KEYS = (
    "seed", "data", "codec", "network", "conditioner", "schedule", "parameterization", "weighting",
    "timestep_sampler", "optimizer", "lr_schedule", "scale_lr", "stages.diffusion",
)  # fmt: skip

RECONSTRUCTED_IMAGES = 8


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
        data, observers = (session.train, session.validation), (pictures, AutoencoderHealth())
        metadata = {"max_steps": cfg.stages.autoencoder.max_steps}
        fit_stage(session, "autoencoder", module, data, folder, observers, identity, metadata)
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
    data = _latents(session, codec, model.network.conditioner)
    session.seconds["codec"] = time.monotonic() - started
    cached = stored_form(data[0], model.network.conditioner)
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
        fit_stage(session, "diffusion", module, data, folder, [pictures], identity, metadata)
    return folder


def _latents(
    session: Session, codec: Codec, conditioner: Conditioner
) -> tuple[BatchDataset, BatchDataset]:
    """Training and validation data of stage two.

    They are cached latents, latents held in memory, or images to encode at each step.
    """
    cfg = session.cfg
    makers = session.latent_makers(codec, conditioner)
    if cfg.data.latents is not None:
        train, validation = (
            maker.open_cache(
                Path(cfg.data.latents) / split, split_identity(cfg, split), split == "train"
            )
            for split, maker in makers.items()
        )
        makers["train"].check_conditions(train, "leave data.latents out")
        return train, validation
    if cfg.data.in_memory:
        device = device_of(cfg.trainer.accelerator, cfg.trainer.devices)
        return makers["train"].held(device), session.validation
    latent = (codec.latent_channels, *(side // codec.factor for side in session.spec.frame))
    size = 2 * 4 * math.prod(latent) * len(session.train) / 2**30
    console.print(
        f"diffusion: {len(session.train):,} images are encoded as training meets them; "
        f"data.in_memory=true would hold their latents in {size:.1f} GiB, and `ldmlab encode` "
        "keep them on disk"
    )
    return session.train, session.validation
