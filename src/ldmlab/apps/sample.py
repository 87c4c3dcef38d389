"""`ldmlab sample`: draw images from a trained run."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from ldmlab.apps.instantiate import build
from ldmlab.apps.restore import Restored, restore
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.conditioning.text import TextConditioner
from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.evaluation.pictures import picture_grid, save_picture, to_pil


def run(cfg: DictConfig) -> None:
    """Draw `num_samples` images under the asked condition, and a grid of them.

    Args:
        cfg: The run's configuration with this verb's keys on top.
    """
    restored = restore(cfg, cfg.run)
    conditions = ask(cfg, restored)
    sampler, guidance = build(cfg.sampler), build(cfg.guidance)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    drawn = []
    starts = range(0, len(conditions), cfg.batch_size)
    for start in track(starts, "sampling", console=console, transient=True):
        part = conditions[start : start + cfg.batch_size]
        noise = SampleNoise(cfg.seed, range(start, start + len(part)))
        image_size = restored.spec.image_size
        drawn.append(restored.model.sample(part, image_size, sampler, noise, guidance))
    images = torch.cat(drawn)
    out = Path(cfg.out) if cfg.out else restored.folder.samples / _free_name(cfg, restored)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out} cannot be created ({error.strerror})") from error
    taken = [out / f"{k:05d}.png" for k in range(len(images)) if (out / f"{k:05d}.png").exists()]
    if taken:
        raise UserError(f"{taken[0]} exists and is not overwritten: name another folder with out=")
    for k, image in enumerate(images):
        save_picture(to_pil(image), out / f"{k:05d}.png")
    save_picture(picture_grid(images, conditions.caption), out / "grid.png")
    console.print(f"{len(images)} images and grid.png in {out}")


def ask(cfg: DictConfig, restored: Restored) -> Batch:
    """The conditions that the configuration asks for.

    Raises:
        UserError: The model needs a condition that was not given, or takes none of this kind.
    """
    conditioner = restored.model.network.conditioner
    captions = _captions(cfg)
    if captions and not isinstance(conditioner, TextConditioner):
        raise UserError("caption= needs a model with conditioner=text, and this run has another")
    if cfg.label is not None and not isinstance(conditioner, ClassConditioner):
        raise UserError("label= needs a model with conditioner=class, and this run has another")
    count = cfg.num_samples
    if captions:
        captions = captions * count if len(captions) == 1 else captions
        return Batch(index=torch.arange(len(captions)), caption=tuple(captions))
    if cfg.label is not None:
        return Batch(index=torch.arange(count), label=torch.full((count,), int(cfg.label)))
    if isinstance(conditioner, TextConditioner | ClassConditioner | MaskConditioner):
        # Nothing was asked for: take the conditions of the run's own validation data.
        validation = build(cfg.data.validation)
        rows = [i % len(validation) for i in range(count)]
        given = validation.__getitems__(rows)
        return Batch(
            index=torch.arange(count), label=given.label, mask=given.mask, caption=given.caption
        )
    return Batch(index=torch.arange(count))


def _captions(cfg: DictConfig) -> list[str]:
    if cfg.caption is not None and cfg.captions is not None:
        raise UserError("give caption=<text> or captions=<file>, not both")
    if cfg.captions is not None:
        try:
            lines = Path(cfg.captions).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"captions={cfg.captions} cannot be read: {error}") from error
        if not (captions := [line for line in lines if line.strip()]):
            raise UserError(f"captions={cfg.captions} holds no caption: write one a line")
        return captions
    return [] if cfg.caption is None else [str(cfg.caption)]


def _free_name(cfg: DictConfig, restored: Restored) -> str:
    """A folder name that tells caption and seed and is not taken."""
    words = re.sub(r"[^a-z0-9]+", "-", str(cfg.caption or "samples").lower()).strip("-")[:60]
    stem = f"{words or 'samples'}-seed{cfg.seed}"
    taken = restored.folder.samples
    return next(
        name
        for name in (stem, *(f"{stem}-{k}" for k in range(2, 10_000)))
        if not (taken / name).exists()
    )
