"""Conditions of `ldmlab sample`: prompts or labels, further ones and a negative one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.instantiate import build
from ldmlab.apps.runs.restore import Restored
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import BatchDataset


@dataclass(frozen=True)
class OwnConditions:
    """Those of a run's own validation data, over and over; read when a part of them is taken.

    Attributes:
        data: The validation data.
        count: How many.
    """

    data: BatchDataset
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Batch:
        indices = range(self.count)[part]
        given = self.data.__getitems__([i % len(self.data) for i in indices])
        return replace(given, index=torch.tensor(indices))


def ask(cfg: DictConfig, restored: Restored) -> Batch | OwnConditions:
    """The conditions that the configuration asks for, or else the run's own.

    Raises:
        UserError: The model needs a condition that was not given, or takes none of this kind.
    """
    conditioner = restored.model.network.conditioner
    captions, labels = _captions(cfg), _labels(cfg)
    if captions and conditioner.input_key != "caption":
        raise UserError("prompt= needs a model conditioned on text, and this run has another")
    if labels and conditioner.input_key != "label":
        raise UserError("labels= needs a model conditioned on classes, and this run has another")
    count = cfg.num_samples
    if captions:
        captions = captions * count if len(captions) == 1 else captions
        return Batch(index=torch.arange(len(captions)), caption=tuple(captions))
    if labels:
        labels = labels * count if len(labels) == 1 else labels
        return Batch(index=torch.arange(len(labels)), label=torch.tensor(labels))
    if conditioner.input_key is None:
        return Batch(index=torch.arange(count))
    return OwnConditions(build(cfg.data.validation), count)


def _captions(cfg: DictConfig) -> list[str]:
    if cfg.prompt is not None and cfg.prompts is not None:
        raise UserError("give prompt=<text> or prompts=<file>, not both")
    if cfg.prompts is not None:
        try:
            lines = Path(cfg.prompts).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"prompts={cfg.prompts} cannot be read: {error}") from error
        if not (captions := [line for line in lines if line.strip()]):
            raise UserError(f"prompts={cfg.prompts} holds no caption: write one a line")
        return captions
    return [] if cfg.prompt is None else [str(cfg.prompt)]


def _labels(cfg: DictConfig) -> list[int]:
    if cfg.labels is None:
        return []
    labels = cfg.labels if OmegaConf.is_list(cfg.labels) else [cfg.labels]
    if not all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        raise UserError(f"labels={cfg.labels} must be the number of a class, or a list of numbers")
    return list(labels)


def ask_once(value: str | int, key: str, conditioner: Conditioner) -> Batch:
    """One caption or class, such as `also=` takes, as a batch of one.

    Raises:
        UserError: The model takes neither, or the value is no class.
    """
    index = torch.arange(1)
    if conditioner.input_key == "caption":
        return Batch(index=index, caption=(str(value),))
    if conditioner.input_key != "label":
        raise UserError(f"{key}= needs a model conditioned on text or on classes")
    try:
        return Batch(index=index, label=torch.tensor([int(value)]))
    except (TypeError, ValueError):
        raise UserError(f"{key}={value} is no class: give its number") from None
