"""What the user asks a model for: conditions to hold, and one to avoid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig

from ldmlab.apps.instantiate import build
from ldmlab.apps.restore import Restored
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch


def ask(cfg: DictConfig, restored: Restored) -> Batch:
    """The conditions that the configuration asks for.

    Raises:
        UserError: The model needs a condition that was not given, or takes none of this kind.
    """
    conditioner = restored.model.network.conditioner
    captions = _captions(cfg)
    if captions and conditioner.reads != "caption":
        raise UserError("caption= needs a model conditioned on text, and this run has another")
    if cfg.label is not None and conditioner.reads != "label":
        raise UserError("label= needs a model conditioned on classes, and this run has another")
    count = cfg.num_samples
    if captions:
        captions = captions * count if len(captions) == 1 else captions
        return Batch(index=torch.arange(len(captions)), caption=tuple(captions))
    if cfg.label is not None:
        return Batch(index=torch.arange(count), label=torch.full((count,), int(cfg.label)))
    if conditioner.reads is None:
        return Batch(index=torch.arange(count))
    # Nothing was asked for: take the conditions of the run's own validation data.
    validation = build(cfg.data.validation)
    given: Batch = validation.__getitems__([i % len(validation) for i in range(count)])
    return replace(given, index=torch.arange(count))


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


def ask_once(value: str | int, key: str, conditioner: Conditioner, count: int) -> Batch:
    """One caption or class, such as `also=` and `avoid=` take, for each of `count` samples.

    Raises:
        UserError: The model takes neither, or the value is no class.
    """
    index = torch.arange(count)
    if conditioner.reads == "caption":
        return Batch(index=index, caption=(str(value),) * count)
    if conditioner.reads != "label":
        raise UserError(f"{key}= needs a model conditioned on text or on classes")
    try:
        return Batch(index=index, label=torch.full((count,), int(value)))
    except (TypeError, ValueError):
        raise UserError(f"{key}={value} is no class: give its number") from None
